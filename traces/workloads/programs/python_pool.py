# SPDX-License-Identifier: GPL-2.0-only
"""A pool of forked workers over a table of Python objects that they share. To look at an object is
to count a reference to it, so workers copy the pages of what they read."""

import multiprocessing
import os

ROWS = 60_000
TASKS = 1000
TASKS_OF_A_WORKER = 10

table = {f"key {i}": [i, str(i) * 4, (i, float(i))] for i in range(ROWS)}
keys = list(table)


def work(task: int) -> int:
    first = task * 797 % ROWS
    seen: dict[str, list[object]] = {}
    for i in range(first, first + 800):
        row = table[keys[i % ROWS]]
        seen[str(row[1])] = [row, list(row)]
    if task % 16 == 0:
        table[keys[first]] = [task] * 10_000
    return len(seen)


def nested(depth: int) -> None:
    """A child that forks the next one, and waits for it."""
    work(depth * 31)
    if depth > 0:
        child = os.fork()
        if child == 0:
            nested(depth - 1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, f"a child ended with {status}"


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with context.Pool(4, maxtasksperchild=TASKS_OF_A_WORKER) as pool:
        assert sum(pool.imap_unordered(work, range(TASKS), chunksize=2)) == TASKS * 800
        pool.close()
        pool.join()
    for _ in range(5):
        process = context.Process(target=nested, args=(3,))
        process.start()
        process.join()
        assert process.exitcode == 0, f"a process ended with {process.exitcode}"
