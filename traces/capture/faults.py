# SPDX-License-Identifier: GPL-2.0-only
"""How many page faults the kernel itself counts in a workload: more than a capture shows, for
get_user_pages() raises no exception."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from rmapreplay.traces.capture.cgroup import Cgroup


class FaultCount:
    """Page faults of the processes in a cgroup, by its memory controller: of version 2 where that
    is enabled for it, else in a cgroup of version 1 made for the purpose."""

    def __init__(self, group: Cgroup) -> None:
        self._ours: Path | None = None
        self._stat: Path | None = group.path / "memory.stat"
        if not self._stat.exists():
            self._stat = None
            hierarchy = _version_1()
            if hierarchy:
                with contextlib.suppress(OSError):
                    self._ours = hierarchy / group.path.name
                    self._ours.mkdir()
                    self._stat = self._ours / "memory.stat"

    def add(self, pid: int) -> None:
        """A process, before it runs; its children will be counted too."""
        if self._ours:
            with contextlib.suppress(OSError):
                self._ours.joinpath("cgroup.procs").write_text(str(pid))

    def faults(self) -> int | None:
        """So far: all that handle_mm_fault() completed. None: there is no such counter here."""
        try:
            lines = self._stat.read_text().splitlines() if self._stat else []
        except OSError:
            return None
        counts = dict(line.split(" ", 1) for line in lines)
        found = counts.get("total_pgfault", counts.get("pgfault"))
        return None if found is None else int(found)

    def remove(self) -> None:
        """Once the processes are gone."""
        if self._ours:
            with contextlib.suppress(OSError):
                self._ours.rmdir()


def _version_1() -> Path | None:
    """The cgroup of the memory controller that this process is in."""
    place = None
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, source = line.partition(" - ")
        if source.startswith("cgroup ") and "memory" in source.split()[-1].split(","):
            place = Path(fields.split()[4])
    if not place or not os.access(place, os.W_OK):
        return None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return place / path.lstrip("/")
    return None
