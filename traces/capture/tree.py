# SPDX-License-Identifier: GPL-2.0-only
"""The processes of a workload where no cgroup holds them together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path
from typing import Final, Protocol

_FIELDS: Final = re.compile(r"^(PPid|TracerPid|State):\s+(\S+)", re.MULTILINE)


class Tree(Protocol):
    """The processes of a workload, wherever they stand; cgroup.Cgroup is one."""

    def pids(self) -> list[int]:
        """Those alive."""

    def populated(self) -> bool:
        """Whether there are any."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all."""

    def kill(self) -> None:
        """Kill all, and wait for their end."""


class Traced:
    """The processes that a child of ours traces with ptrace(2)."""

    def pids(self) -> list[int]:
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            fields = _status(int(directory.name))
            tracer = int(fields.get("TracerPid", 0))
            if not tracer or fields["State"] in ("Z", "X"):
                continue
            if int(_status(tracer).get("PPid", 0)) == os.getpid():
                found.append(int(directory.name))
        return sorted(found)

    def populated(self) -> bool:
        return bool(self.pids())

    def signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        end = time.monotonic() + 10
        while self.populated() and time.monotonic() < end:
            self.signal(signal.SIGKILL)
            time.sleep(0.01)


def _status(pid: int) -> dict[str, str]:
    try:
        return dict(_FIELDS.findall(Path(f"/proc/{pid}/status").read_text()))
    except OSError:
        return {}
