# SPDX-License-Identifier: GPL-2.0-only
"""Times both forms of the models over one trace as its walks grow in number, and prints a table.

Each figure is from a process of its own: CPU seconds (user and system, all threads) and peak
memory. The native form's time is that of a replay with walks less that of one without, where it
shows; the frame form's is what it takes over the timeline once that is written, in slices as
`run --backend frames` asks for them. Of several rounds the least counts; a ratio compares figures
of one run of this program.

usage: frames.py [TRACE [ROUNDS [MOST_WALKS]]]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TRACE = Path(__file__).parents[1] / "traces" / "corpus" / "redis.parquet"
MODELS = ("anon_vma", "cow")
STEPS = (10**5, 10**6, 10**7)
LEAST_SHOWN = 0.03
"""Seconds that a difference must have not to be noise."""


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def native(trace: str, model: str, walks: str) -> dict[str, Any]:
    from rmapreplay.replay import engine
    from rmapreplay.replay.specs import ModelSpec
    from rmapreplay.traces.reader import read_trace

    opened, specs = read_trace(trace), [ModelSpec.parse(model)]
    start = cpu()
    summary = engine.run(opened, specs, walks=walks)["models"][model]
    return {"seconds": cpu() - start, "walks": summary["walks"], "visits": summary["visits"]}


def frames(directory: str, model: str, _: str) -> dict[str, Any]:
    from rmapreplay import read_timeline
    from rmapreplay.replay.frames import slices
    from rmapreplay.rmap_models.frames import frame_model

    visits = walks = 0
    start = cpu()
    for part in slices(read_timeline(directory)):
        found = frame_model(model).walks(part).collect(engine="streaming")
        walks += found.height
        visits += int(found["visits"].sum())
    return {"seconds": cpu() - start, "walks": walks, "visits": visits}


def timeline(trace: str, model: str, walks: str, out: str) -> dict[str, Any]:
    import rmapreplay as rr

    start = cpu()
    rr.timeline(trace, model, walks=walks, out=out)
    return {"seconds": cpu() - start}


def measured(*arguments: object) -> dict[str, Any]:
    """One of the functions above, in a process of its own."""
    command = [sys.executable, __file__, "--", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def least(rounds: int, *arguments: object) -> dict[str, Any]:
    return min((measured(*arguments) for _ in range(rounds)), key=lambda found: found["seconds"])


def compare(trace: str, rounds: int, most: int) -> None:
    print(
        "| model | walks | visits | native, walks/s | frames, walks/s | frames/native, CPU time |"
    )
    print("|---|--:|--:|--:|--:|--:|")
    memory = []
    for model in MODELS:
        without = least(rounds, "native", trace, model, "none")["seconds"]
        each_scan = measured("native", trace, model, "scan:16")["walks"] / 16
        for walks in (step for step in STEPS if step <= most):
            policy = f"scan:{max(1, round(walks / each_scan))}"
            with tempfile.TemporaryDirectory() as room:
                out = f"{room}/timeline"
                written = measured("timeline", trace, model, policy, out)
                ours = least(rounds, "frames", out, model, policy)
            theirs = least(rounds, "native", trace, model, policy)
            assert (ours["walks"], ours["visits"]) == (theirs["walks"], theirs["visits"])
            seconds = theirs["seconds"] - without
            shows = seconds > LEAST_SHOWN
            print(
                f"| {model} | {ours['walks']:,} | {ours['visits']:,} "
                f"| {format(theirs['walks'] / seconds, ',.0f') if shows else ''} "
                f"| {ours['walks'] / ours['seconds']:,.0f} "
                f"| {format(ours['seconds'] / seconds, '.0f') if shows else ''} |",
                flush=True,
            )
            memory.append((model, ours["walks"], theirs, written, ours))
    print("\n| model | walks | native replay, MB | timeline, MB | frames, MB |")
    print("|---|--:|--:|--:|--:|")
    for model, walks, *each in memory:
        print(f"| {model} | {walks:,} | {' | '.join(str(found['peak_mb']) for found in each)} |")


def main() -> None:
    if sys.argv[1:2] == ["--"]:
        name, *arguments = sys.argv[2:]
        found = {"native": native, "frames": frames, "timeline": timeline}[name](*arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps({**found, "peak_mb": peak}))
        return
    trace, rounds, most = [*sys.argv[1:], *(str(TRACE), "3", str(10**7))[len(sys.argv) - 1 :]]
    compare(trace, int(rounds), int(most))


if __name__ == "__main__":
    main()
