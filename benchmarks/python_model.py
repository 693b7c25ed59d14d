# SPDX-License-Identifier: GPL-2.0-only
"""What a model in Python costs: the template anonmm against the built-in one, in one run.

Time is CPU time, the least of several rounds. Time per callback is what the replay takes longer
than under the native model, by the callbacks that came; that of an empty one is of a class that
adds nothing but empty callbacks to another.

usage: python_model.py [ROUNDS]
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import rmapreplay as rr

ROOT = Path(__file__).parents[1]
TRACES = ("redis", "captured/postgres", "captured/fork_server")
EMPTY = ("folios_homed", "folios_unhomed", "mm_fork_end", "pre_update_vma", "post_update_vma")


def template() -> type[rr.RmapModel]:
    spec = importlib.util.spec_from_file_location("anonmm", ROOT / "templates" / "anonmm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[rr.RmapModel] = module.AnonMmModel
    return found


class Quiet(rr.RmapModel):
    """calls only home()"""

    def home(self, vma: int) -> int:
        return 1

    def rmap_walk(self, walk: rr.Walk) -> None: ...


def counting(model: type[rr.RmapModel], calls: list[int]) -> type[rr.RmapModel]:
    """A subclass that counts the callbacks which `model` itself defines."""

    def counted(name: str):  # type: ignore[no-untyped-def]
        method = getattr(model, name)

        def call(self, *args):  # type: ignore[no-untyped-def]
            calls[0] += 1
            return method(self, *args)

        return call

    own = [name for name in vars(rr.RmapModel) if name in vars(model) and name[0] != "_"]
    methods = {name: counted(name) for name in own if callable(getattr(model, name))}
    return type(model.__name__, (model,), methods)


def seconds(trace: rr.Trace, model: str | type[rr.RmapModel], walks: str) -> float:
    from rmapreplay.replay import engine
    from rmapreplay.replay.specs import ModelSpec

    start = time.process_time()
    engine.run(trace, [ModelSpec.of(model)], walks=walks)
    return time.process_time() - start


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    python = template()
    empty = type("Empty", (Quiet,), {name: lambda self, *args: None for name in EMPTY})
    print(f"{'trace':22}{'rows':>9}{'native s':>10}{'python s':>10}{'ratio':>8}{'callbacks':>11}"
          f"{'ns each':>9}{'empty ns':>10}")  # fmt: skip
    for name in TRACES:
        trace = rr.read_trace(ROOT / "traces" / "corpus" / f"{name}.parquet")
        best: dict[object, float] = {}
        for _ in range(rounds):
            for model, walks in (("anonmm", "scan:1"), (python, "scan:1"), (Quiet, "none"),
                                 (empty, "none")):  # fmt: skip
                best[model] = min(best.get(model, 1e9), seconds(trace, model, walks))
        calls, empty_calls = [0], [0]
        seconds(trace, counting(python, calls), "scan:1")
        seconds(trace, counting(empty, empty_calls), "none")
        each = (best[python] - best["anonmm"]) / calls[0]
        nothing = (best[empty] - best[Quiet]) / empty_calls[0]
        print(f"{name:22}{trace.rows:>9,}{best['anonmm']:>10.3f}{best[python]:>10.3f}"
              f"{best[python] / best['anonmm']:>8.2f}{calls[0]:>11,}{each * 1e9:>9.0f}"
              f"{nothing * 1e9:>10.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
