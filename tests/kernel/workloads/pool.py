# SPDX-License-Identifier: GPL-2.0-only
"""A pool of forked workers, as multiprocessing makes it, and children that fork again."""

import multiprocessing
import os
import time


def walk(label: str) -> None:
    try:
        os.write(100, f"migrate {label}\n".encode())
    except OSError:
        return  # nobody to ask
    os.read(101, 1)


table = [list(range(i, i + 20)) for i in range(300)]


def work(number: int) -> int:
    total = sum(sum(row) for row in table[number * 30 : number * 30 + 30])
    table[number * 30] = [total]
    time.sleep(0.02)
    return total


def nested(number: int, ready: int, stop: int) -> None:
    if os.fork() == 0:
        table[number] = [0] * 50
        os.write(ready, b".")
        os.read(stop, 1)
        os._exit(0)
    os.wait()


if __name__ == "__main__":
    walk("warm")
    context = multiprocessing.get_context("fork")
    with context.Pool(3) as pool:
        assert len(pool.map(work, range(10))) == 10
        walk("pool")
    ready, stop = os.pipe(), os.pipe()
    children = [context.Process(target=nested, args=(i, ready[1], stop[0])) for i in range(2)]
    for child in children:
        child.start()
    for _ in children:
        os.read(ready[0], 1)
    walk("children and grandchildren")
    os.write(stop[1], b"..")
    for child in children:
        child.join()
    walk("end")
