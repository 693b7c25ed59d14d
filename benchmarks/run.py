# SPDX-License-Identifier: GPL-2.0-only
"""Runs the core's benchmark for every model, several rounds in turn, and prints medians.

Absolute times depend on the machine; the ratios compare figures of the same round. Instructions per
event come from callgrind, where valgrind is installed, as the difference of two runs of different
length, so that start-up does not count.

usage: run.py BENCH_BINARY [ROUNDS]
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from typing import Any

MODELS = ("anon_vma", "cow")
SUITES = ("faults", "fork", "walk", "memory")
BASE_MODEL = "anon_vma"

# Figure, what it is for, and which records of the benchmark have it.
FIGURES = {
    "ns_per_event": "faults",
    "million_events_per_second": "faults",
    "ratio": "faults",
    "first_ns_per_page": "fork pages",
    "ns_per_page": "fork pages",
    "ns_per_vma": "fork vmas",
    "ns_per_visit": "walk",
    "bytes_per_page": "memory pages",
    "bytes_per_vma": "memory vmas",
}
LABELS = {"ratio": "time of the engine / of a dictionary from page to folio"}


def records(binary: str, suite: str, model: str) -> list[dict[str, Any]]:
    output = subprocess.run([binary, suite, model], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in output.stdout.splitlines()]


def instructions(binary: str, model: str, events: int) -> int:
    run = subprocess.run(
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(binary, "replay", model, str(events)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"Collected : (\d+)", run.stderr)
    assert found, run.stderr
    return int(found[1])


def key(record: dict[str, Any]) -> str:
    sharers = record.get("sharers")
    return record["bench"] + ("" if sharers is None else f", {sharers + 1} mms")


def main() -> None:
    binary = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    seen: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for suite in SUITES:
            for model in MODELS:
                for record in records(binary, suite, model):
                    for figure, bench in FIGURES.items():
                        if figure in record and record["bench"] == bench:
                            seen[key(record), figure, model].append(record[figure])
    print(f"median of {rounds} rounds; last column: median of the ratios within a round")
    print(f"{'':24}{'':26}{'anon_vma':>10}{'cow':>10}{'cow / anon_vma':>16}")
    for bench, figure in dict.fromkeys((b, f) for b, f, _ in seen):
        base, other = (seen[bench, figure, model] for model in MODELS)
        ratio = statistics.median(b / a for a, b in zip(base, other, strict=True))
        print(
            f"{bench:24}{figure:26}{statistics.median(base):>10.2f}"
            f"{statistics.median(other):>10.2f}{ratio:>16.3f}"
        )
    for figure, label in LABELS.items():
        print(f"{figure}: {label}")
    if shutil.which("valgrind") is None:
        print("instructions per event: valgrind is not installed")
        return
    short, long = 200_000, 600_000
    for model in MODELS:
        counted = instructions(binary, model, long) - instructions(binary, model, short)
        print(f"instructions per event, {model}: {counted / (long - short):.1f}")


if __name__ == "__main__":
    main()
