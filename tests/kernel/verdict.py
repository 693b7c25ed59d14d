# SPDX-License-Identifier: GPL-2.0-only
"""From a recording to a verdict: `rmapreplay import`, then `rmapreplay check`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from errors import HarnessError
from record import AUX, TRACE, Recording
from workloads import Workload

_STACK_LIMIT: Final = 8 << 20  # what the kernel gives init
# A call, walk or fault of which the probes have seen one half only: they missed the other.
_MISSED: Final = ("fault_end_not_seen", "walk_end_not_seen", "malformed_line")


@dataclass(frozen=True)
class Verdict:
    """What `rmapreplay check --format json` says; see docs/check.md."""

    summary: Mapping[str, Any]

    @property
    def exact(self) -> bool:
        """Whether the model did what the kernel did."""
        return bool(self.summary["exact"])

    def cells(self) -> list[str]:
        """Under HEADINGS, for people."""
        walks, vmas = self.summary["walks"], self.summary["vmas"]
        objects = self.summary["objects"].values()
        expected = sum(kind["expected"] for kind in objects)
        got = sum(kind["got"] for kind in objects)
        return [
            f"{walks['recorded']:,}",
            f"{walks['exact'] + walks['prefix']:,}",
            f"{walks['tie']:,}",
            f"{walks['wrong']:,}",
            f"{expected:,}",
            f"{got:,}",
            f"{vmas.get('equal', 0)}/{vmas.get('snapshots', 0)}",
        ]

    def first(self) -> str:
        """The first disagreement, in a line; empty if there is none."""
        found = self.summary["first_disagreement"]
        if found is None:
            return ""
        row = "" if found["row"] is None else f"row {found['row']}: "
        return f"{row}{found['text']} ({found['category']})"


HEADINGS: Final = ("walks", "exact", "tie", "wrong", "objects", "model's", "maps")


def judge(recording: Recording, workload: Workload, model: str) -> Verdict:
    """Import the recording and check it; NAME.parquet, NAME.truth.parquet, check.json and check.txt
    go to its directory.

    Raises HarnessError if it cannot be imported, or the probes missed something.
    """
    out = recording.directory
    trace = out / f"{workload.name}.parquet"
    said = _rmapreplay(
        *("import", out / TRACE, "-o", trace, "--from", "tracefs", "--truth", out / AUX),
        *("--thp", workload.thp, "--stack-limit", _STACK_LIMIT, "--force"),
        *("--command", " ".join(workload.command), "--description", workload.about),
    )
    (out / "import.txt").write_text(said.stderr)
    if said.returncode != 0:
        raise HarnessError(f"import: {said.stderr.strip()}")
    _require_whole(trace)
    (out / "check.txt").write_text(_rmapreplay("check", trace, "--model", model).stdout)
    said = _rmapreplay("check", trace, "--model", model, "--format", "json")
    if said.returncode not in (0, 1) or not said.stdout:
        raise HarnessError(f"check: {said.stderr.strip()}")
    (out / "check.json").write_text(said.stdout)
    return Verdict(json.loads(said.stdout))


def _require_whole(trace: Path) -> None:
    said = _rmapreplay("info", trace, "--format", "json")
    if said.returncode != 0:
        raise HarnessError(f"info: {said.stderr.strip()}")
    metadata = json.loads(said.stdout)["metadata"]
    missed = {reason: metadata["dropped"].get(reason, 0) for reason in _MISSED}
    missed["enters without exits"] = metadata["unmatched"]["enters"]
    missed["exits without enters"] = metadata["unmatched"]["exits"]
    missed["lost"] = metadata["lost"]
    if any(missed.values()):
        counts = ", ".join(f"{n} {reason}" for reason, n in missed.items() if n)
        raise HarnessError(f"the recording is not whole: {counts}")


def _rmapreplay(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("rmapreplay")
    if not program.exists():
        raise HarnessError(f"rmapreplay is not installed beside {sys.executable}")
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
