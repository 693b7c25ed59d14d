# SPDX-License-Identifier: GPL-2.0-only
"""What a capture needs of the machine, asked before anything is started."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rmapreplay.traces.errors import CaptureError


@dataclass(frozen=True)
class Requirement:
    """One thing that is needed.

    Attributes:
        what: its name.
        met: whether it is there.
        found: what was found, in a few words.
        remedy: how to get it.
    """

    what: str
    met: bool
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        if self.met:
            return f"{self.what}: {self.found}"
        return f"{self.what}: {self.found}; {self.remedy}"


def require(requirements: Iterable[Requirement]) -> None:
    """Raises CaptureError with everything that is missing, in one line."""
    missing = [str(one) for one in requirements if not one.met]
    if missing:
        raise CaptureError(f"cannot capture here: {' | '.join(missing)}")


def root() -> Requirement:
    """Being root."""
    if os.geteuid() == 0:
        return Requirement("root", True, "yes")
    return Requirement("root", False, "no", "run as root, for instance with sudo")


def program(name: str, package: str) -> Requirement:
    """A program that runs: where it is and its version."""
    path = shutil.which(name)
    remedy = f"install it, in Debian with: apt install {package}"
    if not path:
        return Requirement(name, False, "not installed", remedy)
    version = program_version(name)
    if version is None:
        return Requirement(name, False, f"{path} does not run", remedy)
    return Requirement(name, True, f"{path}, {version}")


@cache
def program_version(name: str) -> str | None:
    """The first line of `name --version`; None if it fails."""
    try:
        done = subprocess.run(
            [name, "--version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None


def tracefs() -> Path | None:
    """Where tracefs is mounted."""
    for place in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        if os.path.isdir(f"{place}/events"):  # Path.is_dir() raises where only root may look
            return Path(place)
    return None


def mounted_tracefs() -> Requirement:
    """tracefs, readable."""
    place = tracefs()
    if place:
        return Requirement("tracefs", True, str(place))
    remedy = "mount it: mount -t tracefs nodev /sys/kernel/tracing"
    if Path("/sys/kernel/tracing").is_dir():
        return Requirement("tracefs", False, "not mounted, or not to be read", remedy)
    return Requirement("tracefs", False, "this kernel has none", "boot one with CONFIG_TRACING")


def tracepoints(names: Iterable[str]) -> Requirement:
    """Tracepoints, as group:event."""
    place = tracefs()
    names = list(names)
    missing = [
        name
        for name in names
        if not place or not place.joinpath("events", *name.split(":")).is_dir()
    ]
    if not missing:
        return Requirement("tracepoints", True, f"all {len(names)}")
    return Requirement(
        "tracepoints", False, f"this kernel lacks {', '.join(missing)}", "use another backend"
    )


def lockdown() -> Requirement:
    """Whether the kernel is locked down so far that nothing may be traced."""
    try:
        text = Path("/sys/kernel/security/lockdown").read_text()
    except OSError:
        return Requirement("lockdown", True, "none to be seen")
    mode = text.partition("[")[2].partition("]")[0]
    if mode != "confidentiality":
        return Requirement("lockdown", True, mode)
    return Requirement(
        "lockdown", False, mode, "boot with lockdown=integrity or none, or use --backend strace"
    )
