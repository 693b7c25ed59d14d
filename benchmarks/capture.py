# SPDX-License-Identifier: GPL-2.0-only
"""Times the way from a recording to a trace, on a capture of forking shells made on the spot.

Times are CPU time, user and system, of all processes involved, on one core: the least of all
rounds, for other work on the machine only ever adds to it. Start-up is what the same takes for a
capture of a program that does nothing.

usage: capture.py [ROUNDS]
       capture.py STAGE DATA TEXT OUT   one stage, once: what is timed
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

FORKS = 2000
WORKLOADS = {"empty": "true", "forks": f"for i in $(seq {FORKS}); do (:); done"}
STAGES = {
    "plain": "perf script alone",
    "filtered": "perf script with the filter",
    "import": "import of its text",
    "all": "perf.data to Parquet",
}


def stage(name: str, data: Path, text: Path, out: Path) -> None:
    """Run a stage."""
    from rmapreplay.traces.capture.perf.script import PerfScript
    from rmapreplay.traces.importers import ImportOptions, importer
    from rmapreplay.traces.importers.base import TextFile

    script = PerfScript(data, use_filter=name != "plain")
    if name in ("plain", "filtered"):
        for _ in script.chunks():
            pass
    else:
        source = TextFile(text) if name == "import" else script
        importer("perf").run(source, out, ImportOptions())
    if name in ("filtered", "all") and not script.filtered:
        sys.exit(f"this perf did not take the filter: {' '.join(script.messages)}")


def cpu_seconds(name: str, place: Path) -> float:
    """What a stage takes, all processes together."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    files = (place / file for file in ("x.perf.data", "x.txt", "out.parquet"))
    subprocess.run([sys.executable, __file__, name, *map(str, files)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def capture(script: str, place: Path) -> str | None:
    """Record a shell script; why that cannot be done, if it cannot."""
    place.mkdir()
    program = Path(sys.executable).with_name("rmapreplay")
    arguments = [
        "capture",
        "--keep-raw",
        "-o",
        str(place / "x.parquet"),
        "--",
        "bash",
        "-c",
        script,
    ]
    done = subprocess.run([program, *arguments], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return done.stderr.strip().splitlines()[-1]
    return None


def prepare(place: Path) -> int:
    """The text of a capture for the stage that imports it; the capture's number of events."""
    from rmapreplay import _native
    from rmapreplay.traces.capture.perf.script import PerfScript

    data = place / "x.perf.data"
    with place.joinpath("x.txt").open("wb") as text:
        text.writelines(PerfScript(data).chunks())
    records = _native.PerfRecordCounter()
    records.feed(data.read_bytes())
    return records.samples


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        places = {name: Path(directory, name) for name in WORKLOADS}
        for name, place in places.items():
            if reason := capture(WORKLOADS[name], place):
                print(f"capture to Parquet: not measured, for there is no capture: {reason}")
                return
        events = {name: prepare(place) for name, place in places.items()}
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(
            f"capture of {FORKS} forks, {events['forks']} events; one core, best of {rounds} rounds"
        )
        print(f"{'':32}{'CPU s':>8}{'events/s':>12}{'start-up s':>12}{'without it':>12}")
        for name, label in STAGES.items():
            least = {w: min(cpu_seconds(name, places[w]) for _ in range(rounds)) for w in places}
            rate = events["forks"] / least["forks"]
            steady = (events["forks"] - events["empty"]) / (least["forks"] - least["empty"])
            print(
                f"{label:32}{least['forks']:>8.2f}{rate:>12,.0f}"
                f"{least['empty']:>12.2f}{steady:>12,.0f}"
            )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        stage(sys.argv[1], *map(Path, sys.argv[2:5]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
