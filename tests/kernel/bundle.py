# SPDX-License-Identifier: GPL-2.0-only
"""Imports recordings again and keeps them as the tests' data:

    python tests/kernel/bundle.py OUT

where OUT is what `make kernel-truth` left its results in. Each RELEASE/WORKLOAD in it becomes
tests/data/kernel-truth/VERSION/WORKLOAD.parquet with its answer key; those that disagree with the
model too, for that is for the tests to say.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from errors import HarnessError
from record import TRACE, Recording
from verdict import judge
from workloads import choose

DATA: Final = Path(__file__).resolve().parents[1] / "data" / "kernel-truth"


def main(arguments: list[str]) -> int:
    """Bundle every recording below the only argument."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: bundle.py OUT, a directory of results of kernel-truth", file=sys.stderr)
        return 2
    try:
        for trace in sorted(Path(arguments[0]).glob(f"*/*/{TRACE}")):
            _bundle(trace.parent)
    except HarnessError as error:
        print(f"bundle.py: error: {error}", file=sys.stderr)
        return 2
    return 0


def _bundle(recording: Path) -> None:
    (workload,) = choose([recording.name])
    verdict = judge(Recording(recording, 0, ()), workload, "anon_vma")
    kept = DATA / recording.parent.name.split("+")[0].split("-")[0]
    kept.mkdir(parents=True, exist_ok=True)
    for name in (f"{workload.name}.parquet", f"{workload.name}.truth.parquet"):
        shutil.copy(recording / name, kept / name)
    print(f"{kept.name}/{workload.name}: {'exact' if verdict.exact else verdict.first()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
