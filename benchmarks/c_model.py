# SPDX-License-Identifier: GPL-2.0-only
"""What a model in C costs: the template pte_chain against the built-in one, over bundled traces.

Time is CPU time of the replay alone, the least of several rounds; the two take turns, and the ratio
is of the same run.

usage: c_model.py [ROUNDS]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import rmapreplay as rr
from rmapreplay.replay.engine import ModelRun
from rmapreplay.replay.specs import ModelSpec

ROOT = Path(__file__).parents[1]
TRACES = ("redis", "python", "pymp", "sng_rmap", "captured/postgres", "captured/fork_server")
SOURCE = ROOT / "templates" / "c_model" / "pte_chain.c"


def compiled(folder: Path) -> Path:
    library = folder / "libpte_chain.so"
    subprocess.run(
        [*("cc", "-std=c11", "-O2", "-fPIC", "-shared", f"-I{rr.include_dir()}"),
         *("-o", str(library), str(SOURCE))],
        check=True,
    )  # fmt: skip
    return library


def seconds(trace: rr.Trace, batches: list[Any], model: str) -> float:
    """Both run in this process, so that the time is that of the calls and not of the pipe."""
    run = ModelRun(ModelSpec.parse(model), trace, "scan:16", False, None)
    start = time.thread_time()
    for batch in batches:
        run.feed(batch)
    run.finish()
    return time.thread_time() - start


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    total = {"native": 0.0, "C": 0.0}
    print(f"{'pte_chain':22}{'rows':>9}{'native ms':>11}{'C ms':>8}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        models = {"native": "pte_chain", "C": str(compiled(Path(folder)))}
        for name in TRACES:
            trace = rr.read_trace(ROOT / "traces" / "corpus" / f"{name}.parquet")
            batches = list(trace.batches())
            best = dict.fromkeys(models, float("inf"))
            for _ in range(rounds):
                for kind, model in models.items():
                    best[kind] = min(best[kind], seconds(trace, batches, model))
            for kind in models:
                total[kind] += best[kind]
            print(f"{name:22}{trace.rows:>9,}{best['native'] * 1e3:>11.1f}{best['C'] * 1e3:>8.1f}"
                  f"{best['C'] / best['native']:>8.3f}")  # fmt: skip
    print(f"{'all':22}{'':9}{total['native'] * 1e3:>11.1f}{total['C'] * 1e3:>8.1f}"
          f"{total['C'] / total['native']:>8.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
