# SPDX-License-Identifier: GPL-2.0-only
"""What made a result: this program, exactly, and the host it ran on."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

_PARTS = ("traces", "replay", "rmap_models", "batch")
"""The packages that a result depends on."""


@cache
def program() -> dict[str, str]:
    """Name, version, and `build`: the SHA-256 of the installed files that a result depends on. With
    the version of pyarrow, which writes the files, that settles every byte of a result."""
    import pyarrow as pa

    import rmapreplay

    home = Path(rmapreplay.__file__).parent
    files = [*home.glob("*.so"), home / "__init__.py"]
    for part in _PARTS:
        files += (home / part).rglob("*.py")
    build = hashlib.sha256()
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        build.update(f"{file.relative_to(home).as_posix()} {content}\n".encode())
    return {
        "name": "rmapreplay",
        "version": rmapreplay.__version__,
        "build": build.hexdigest(),
        "pyarrow": pa.__version__,
    }


def host() -> dict[str, Any]:
    """The machine that this process runs on."""
    return {
        "name": platform.node(),
        "machine": platform.machine(),
        "system": platform.system(),
        "release": platform.release(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
    }


def _cpu() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return None
