# SPDX-License-Identifier: GPL-2.0-only
"""Captures the workloads of traces/workloads, as root on a Debian machine:

    python traces/corpus/collect.py OUT [--rounds N] [--no-install] [NAME...]

For each workload OUT gets NAME.parquet, its answer key, and NAME.json, a card that tells what it is
and what came out. A round is a run without and a run with capture; the trace is that of the first.
Exit code 1: some workload failed, lost events, or a model missed a mapping in its trace.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import rmapreplay as rr
from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.info import trace_info
from rmapreplay.traces.reader import read_trace

WORKLOADS: Final = Path(__file__).resolve().parents[1] / "workloads"
MODELS: Final = ("anon_vma", "cow")
_RMAPREPLAY: Final = Path(sys.executable).with_name("rmapreplay")
_HEADERS: Final = ("about", "packages", "version", "threads")


class WorkloadError(Exception):
    """A workload or its capture failed; reads as one line."""


@dataclass(frozen=True)
class Workload:
    """A script of traces/workloads.

    Attributes:
        path: the script.
        about: what it does, in a line.
        packages: Debian packages that it needs.
        version: command that prints the versions of what runs.
        threads: whether its processes have several threads.
    """

    path: Path
    about: str
    packages: tuple[str, ...]
    version: str
    threads: bool

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class Run:
    """Seconds that a run took, by the clock and of CPU."""

    wall: float
    cpu: float


def workloads() -> list[Workload]:
    """All of them, in order of name."""
    return [
        _workload(path)
        for path in sorted(WORKLOADS.iterdir())
        if os.access(path, os.X_OK) and path.is_file()
    ]


def main() -> int:
    """See above."""
    options = _options()
    chosen = [one for one in workloads() if not options.names or one.name in options.names]
    unknown = set(options.names) - {one.name for one in chosen}
    if unknown:
        print(f"collect.py: error: no workload {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    if not options.no_install:
        _install({package for one in chosen for package in one.packages})
    options.out.mkdir(parents=True, exist_ok=True)
    status = 0
    for workload in chosen:
        try:
            card = _collect(workload, options.out, options.rounds)
        except (WorkloadError, RmapReplayError) as error:
            print(f"{workload.name}: FAILED: {error}", file=sys.stderr)
            status = 1
            continue
        good = not card["lost"] and not any(card["misses"].values())
        status = status if good else 1
        print(_line(card), file=sys.stderr)
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="collect.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    parser.add_argument("--no-install", action="store_true")
    return parser.parse_intermixed_args()


def _workload(path: Path) -> Workload:
    found = {}
    for line in path.read_text().splitlines():
        key, colon, value = line.removeprefix("# ").partition(": ")
        if colon and key in _HEADERS and key not in found:
            found[key] = value.strip()
    return Workload(
        path,
        found["about"],
        tuple(found.get("packages", "").split()),
        found["version"],
        found["threads"] == "yes",
    )


def _install(packages: set[str]) -> None:
    """Of these Debian packages, those that are missing."""
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    there = {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")}
    missing = sorted(packages - there)
    if not missing:
        return
    print(f"installing {' '.join(missing)}", file=sys.stderr)
    # Their services are not to be started: policy-rc.d says so for as long as this takes.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["update", "-qq"],
            ["install", "-qqy", "--no-install-recommends", *missing],
        ):
            done = subprocess.run(
                ["apt-get", *command], env=environment, check=False, capture_output=True, text=True
            )
            if done.returncode:
                print(f"apt-get {command[0]}: {_last(done.stderr)}", file=sys.stderr)
    finally:
        if ours:
            policy.unlink()


def _collect(workload: Workload, out: Path, rounds: int) -> dict[str, Any]:
    """Captures a workload; returns its card, which is also written."""
    trace = out / f"{workload.name}.parquet"
    plain, captured = [], []
    for number in range(rounds):
        with _prepared(workload) as directory:
            plain.append(_plain(workload, directory))
        with _prepared(workload) as directory, tempfile.TemporaryDirectory() as spare:
            target = trace if number == 0 else Path(spare) / trace.name
            captured.append(_capture(workload, directory, target))
    card = _card(workload, trace) | {"overhead": _overhead(plain, captured)}
    temporary = trace.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(card, indent=2) + "\n")
    temporary.replace(trace.with_suffix(".json"))
    return card


@contextmanager
def _prepared(workload: Workload) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=f"rmapreplay-{workload.name}."))
    try:
        _require(
            subprocess.run(
                [workload.path, "prepare", directory], capture_output=True, text=True, check=False
            )
        )
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _plain(workload: Workload, directory: Path) -> Run:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    _require(
        subprocess.run(
            [workload.path, "run", directory], capture_output=True, text=True, check=False
        )
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(time.monotonic() - began, cpu)


def _capture(workload: Workload, directory: Path, trace: Path) -> Run:
    command = [
        _RMAPREPLAY,
        "capture",
        "--force",
        "--allow-loss",
        "-o",
        trace,
        "--description",
        workload.about,
        "--",
        workload.path,
        "run",
        directory,
    ]
    _require(subprocess.run(command, capture_output=True, text=True, check=False))
    run = read_trace(trace).metadata["capture"]
    if run["exit"]["status"] or run["exit"]["signal"]:
        raise WorkloadError(f"its captured run ended with {run['exit']}")
    return Run(run["seconds"], run["children_cpu"])


def _require(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise WorkloadError(f"{shlex.join(map(str, done.args))}: {_last(done.stderr)}")


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


def _card(workload: Workload, path: Path) -> dict[str, Any]:
    trace = read_trace(path)
    metadata, info = trace.metadata, trace_info(trace)
    summary = rr.replay(path, list(MODELS)).summary
    version = subprocess.run(
        ["bash", "-c", workload.version], capture_output=True, text=True, check=False
    )
    return {
        "name": workload.name,
        "about": workload.about,
        "version": " ".join((version.stdout or version.stderr).split("\n", 1)[0].split()),
        "packages": workload.packages,
        "command": f"traces/workloads/{workload.path.name}",
        "threads": workload.threads,
        "kernel": metadata["kernel"],
        "capture": metadata["capture"],
        "events": info["rows"],
        "processes": info["processes"],
        "forks": info["forks"],
        "mremaps": info["ops"].get("mremap", 0),
        "faults": info["ops"].get("fault", 0),
        "lost": metadata["lost"],
        "unmatched": metadata["unmatched"],
        "dropped": metadata["dropped"],
        "alive": metadata["processes_alive"],
        "anomalies": summary["anomalies"],
        "misses": {label: model["misses"] for label, model in summary["models"].items()},
        "bytes": info["bytes"],
    }


def _overhead(plain: Sequence[Run], captured: Sequence[Run]) -> dict[str, Any]:
    """Medians of seconds; CPU is that of the workload and all it waited for, with that of the
    recorder where there is one."""
    runs = {"plain": plain, "captured": captured}
    return {
        "rounds": len(plain),
        **{
            kind: {
                "wall": round(statistics.median(run.wall for run in found), 3),
                "cpu": round(statistics.median(run.cpu for run in found), 3),
            }
            for kind, found in runs.items()
        },
    }


def _line(card: dict[str, Any]) -> str:
    over = card["overhead"]
    anomalies = sum(card["anomalies"].values())
    return (
        f"{card['name']}: {card['events']:,} events, {card['processes']} processes, "
        f"{card['lost']} lost, {anomalies} anomalies, {sum(card['misses'].values())} misses, "
        f"{card['bytes'] / card['events']:.2f} bytes per event, "
        f"wall x{over['captured']['wall'] / over['plain']['wall']:.2f}, "
        f"CPU x{over['captured']['cpu'] / over['plain']['cpu']:.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
