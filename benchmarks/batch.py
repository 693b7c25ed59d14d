# SPDX-License-Identifier: GPL-2.0-only
"""Times batches of a corpus: one replay at a time, two, and on two dask workers.

    python benchmarks/batch.py CORPUS [ROUNDS]

Prints the table of docs/batch.md: of the rounds, the least time by the clock and of CPUs. All that
the batches wrote must be the same bytes.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("rmapreplay")
MODELS = "anon_vma,cow"
EXECUTORS = (["--jobs=1"], ["--jobs=2"], ["--cluster=local:2"])


def timed(arguments: list[str]) -> tuple[float, float]:
    """Seconds by the clock, and of CPUs, that a batch takes."""

    def cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    clock, before = time.perf_counter(), cpu()
    subprocess.run([PROGRAM, "batch", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - clock, cpu() - before


def contents(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != "timings.jsonl"
    }


def main() -> None:
    corpus, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    times: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            written = []
            for executor in EXECUTORS:
                out = Path(folder) / f"{executor[0]}-{number}"
                arguments = [corpus, "-m", MODELS, "-o", str(out), *executor]
                times.setdefault(executor[0], []).append(timed(arguments))
                written.append(contents(out))
            assert all(each == written[0] for each in written)
            again = timed([corpus, "-m", MODELS, "-o", str(out)])
            times.setdefault("again, all reused", []).append(again)
    first = min(clock for clock, _ in times["--jobs=1"])
    print("| executor | seconds | CPU seconds | times as fast as one at a time |")
    print("|---|---|---|---|")
    for what, each in times.items():
        clock, cpu = (min(column) for column in zip(*each, strict=True))
        ratio = f"{first / clock:.2f}" if what.startswith("--") else ""
        print(f"| {what} | {clock:.1f} | {cpu:.1f} | {ratio} |")


if __name__ == "__main__":
    main()
