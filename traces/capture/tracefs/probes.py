# SPDX-License-Identifier: GPL-2.0-only
"""Probes at functions of the kernel, by the table in probes.txt: fprobe events, which exist for the
whole machine as long as a capture lasts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rmapreplay.traces.capture.requirements import tracefs
from rmapreplay.traces.errors import CaptureError

_TABLE: Final = Path(__file__).with_name("probes.txt")
_GROUP: Final = "rmapreplay_"
_FOLLOWED_RETURNS: Final = 1024
_OURS: Final = re.compile(rf"^f\d*:({_GROUP}(\d+)\w*)/(\S+) ", re.MULTILINE)


@dataclass
class Probe:
    """A probe of the table.

    Attributes:
        name: of its event.
        required: no recording can do without it.
        places: functions and fields, as dynamic_events takes them; the first that the kernel
            accepts is taken.
        also: more of the same name, taken besides.
        condition: of its events, only these.
    """

    name: str
    required: bool
    places: list[str]
    also: list[str] = field(default_factory=list)
    condition: str = ""


@dataclass
class Table:
    """What a recording with probes records: system calls by name, tracepoints as GROUP/NAME, and
    probes."""

    calls: list[str]
    events: list[str]
    probes: dict[str, Probe]


def probe_table() -> Table:
    """What probes.txt says; its own head tells how to read it."""
    text = re.sub(r"\n +", " ", _TABLE.read_text())
    table = Table([], [], {})
    last = ""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        match kind:
            case "" | "#":
                continue
            case "call":
                table.calls += rest.split()
            case "event":
                table.events += rest.split()
            case "required" | "optional":
                last, _, place = rest.partition(" ")
                table.probes[last] = Probe(last, kind == "required", [place])
            case "else":
                table.probes[last].places.append(rest)
            case "also":
                table.probes[last].also.append(rest)
            case "filter":
                name, _, condition = rest.partition(" ")
                table.probes[name].condition = condition
            case _:
                raise AssertionError(f"{_TABLE}: {line}")
    return table


class Probes:
    """The probes of a capture, from their making until remove().

    Attributes:
        groups: groups of events to enable.
        conditions: of an event as GROUP/NAME, only these.
    """

    def __init__(self, table: Table) -> None:
        """Raises CaptureError if the kernel does not take a probe that no recording can do without;
        then there are none."""
        place = tracefs()
        assert place
        self._file = place / "dynamic_events"
        self._errors = place / "error_log"
        remove_stale_probes(place)
        group = f"{_GROUP}{os.getpid()}"
        self.groups: list[str] = []
        self.conditions: dict[str, str] = {}
        try:
            for probe in table.probes.values():
                self._add(group, probe)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """All of them; no instance may record them any more."""
        for group in self.groups:
            _remove_group(self._file, group)

    def _add(self, group: str, probe: Probe) -> None:
        found = any(self._define(group, probe.name, place) for place in probe.places)
        if found and probe.condition:
            self.conditions[f"{group}/{probe.name}"] = probe.condition
        for place in probe.also:
            found |= self._define(f"{group}_also", probe.name, place)
        if probe.required and not found:
            functions = " or ".join(place.split()[0] for place in [*probe.places, *probe.also])
            raise CaptureError(f"this kernel takes no probe at {functions}{self._refusal()}")

    def _define(self, group: str, name: str, place: str) -> bool:
        returns = place.split()[0].endswith("%return")
        # Before Linux 6.14 returns are followed for twice as many tasks as there are CPUs, unless
        # told otherwise, and those above are missed without a word. Later kernels have no limit.
        for kind in (f"f{_FOLLOWED_RETURNS}", "f") if returns else ("f",):
            if _tell(self._file, f"{kind}:{group}/{name} {place}"):
                if group not in self.groups:
                    self.groups.append(group)
                return True
        return False

    def _refusal(self) -> str:
        """What the kernel said of the last that it refused."""
        try:
            said = re.findall(r": error: (.*)", self._errors.read_text())
        except OSError:
            return ""
        return f": {said[-1].strip()}" if said else ""


def probes_allowed() -> bool:
    """Whether this kernel takes probes at all."""
    place = tracefs()
    table = Table([], [], {"fault": probe_table().probes["fault"]})
    if not place or not place.joinpath("dynamic_events").exists():
        return False
    try:
        Probes(table).remove()
    except CaptureError:
        return False
    return True


def remove_stale_probes(place: Path) -> None:
    """Those of captures that were killed."""
    groups = {group: pid for group, pid, _ in _ours(place / "dynamic_events")}
    for group, pid in groups.items():
        if not Path("/proc", pid).exists():
            _remove_group(place / "dynamic_events", group)


def _remove_group(file: Path, group: str) -> None:
    for other, _, name in list(_ours(file)):
        if other == group:
            _tell(file, f"-:{group}/{name}")


def _tell(file: Path, command: str) -> bool:
    """Whether dynamic_events takes a command. Opened in another way it would forget all it has."""
    try:
        opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.write(opened, command.encode()) > 0
    except OSError:
        return False
    finally:
        os.close(opened)


def _ours(file: Path) -> Iterator[tuple[str, str, str]]:
    """Group, pid in it, and name of each probe that some capture has made."""
    try:
        text = file.read_text()
    except OSError:
        return
    for found in _OURS.finditer(text):
        yield found[1], found[2], found[3]
