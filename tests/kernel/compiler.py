# SPDX-License-Identifier: GPL-2.0-only
"""C for the guest: the launcher, the workloads and their libraries."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path

from errors import HarnessError, UnavailableError

_FLAGS = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror")


def build_program(sources: Iterable[Path], build: Path, *, static: bool = True) -> Path:
    """A program, named after the first of its sources."""
    sources = list(sources)
    return _compile(sources, build / sources[0].stem, ["-static"] if static else [])


def build_library(source: Path, build: Path, number: int) -> Path:
    """A shared library, compiled with NUMBER defined."""
    out = build / f"{source.stem}{number}.so"
    return _compile([source], out, ["-shared", "-fPIC", f"-DNUMBER={number}"])


def _compile(sources: list[Path], out: Path, flags: list[str]) -> Path:
    headers = {header for source in sources for header in source.parent.glob("*.h")}
    newest = max(file.stat().st_mtime for file in (*sources, *headers))
    if out.exists() and out.stat().st_mtime > newest:
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    command = [*compiler, *_FLAGS, *flags, "-o", str(out), *map(str, sources)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UnavailableError(f"{compiler[0]} is not installed") from error
    if done.returncode != 0:
        raise HarnessError(f"{shlex.join(command)}:\n{done.stderr.strip()}")
    return out
