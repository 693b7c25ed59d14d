# SPDX-License-Identifier: GPL-2.0-only
"""A pool of forked workers over arrays that they share: numpy asks for huge pages for the large
ones. Workers read them all, write to some of their own copy, and send small arrays back."""

import multiprocessing

import numpy as np

ROWS, COLUMNS = 4096, 1024  # 32 MB of doubles
TASKS = 240
TASKS_OF_A_WORKER = 6

generator = np.random.default_rng(1)
matrix = generator.random((ROWS, COLUMNS))
weights = [generator.random(COLUMNS) for _ in range(2000)]  # 8 KB each: on the heap


def work(task: int) -> np.ndarray:
    first = task * 61 % (ROWS - 64)
    block = matrix[first : first + 64]
    scaled = block * weights[task]
    if task % 3 == 0:
        block -= block.mean(axis=0)
    if task % 5 == 0:
        matrix[:: ROWS // 8, 0] = task  # a page in every few huge ones
    for i in range(task, 2000, 60):
        weights[i] *= 0.5
    large = np.sort(matrix[:, task])
    return scaled.sum(axis=0) + large[:COLUMNS]


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    for _ in range(2):
        with context.Pool(3, maxtasksperchild=TASKS_OF_A_WORKER) as pool:
            results = pool.map(work, range(TASKS), chunksize=2)
            assert len(results) == TASKS
            pool.close()
            pool.join()
        matrix += np.mean(results)  # the parent's turn
