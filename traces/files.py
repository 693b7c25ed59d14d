# SPDX-License-Identifier: GPL-2.0-only
"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rmapreplay.traces.errors import RmapReplayError


def temporary_beside(path: Path) -> Path:
    """A hidden name in the same directory, which nobody else has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def cannot_write(path: Path, error: OSError) -> RmapReplayError:
    """The error to raise for one of the operating system's."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return RmapReplayError(f"{path}: cannot write: {reason}")


@contextmanager
def whole_file(path: str | Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """A file to write to. It is a temporary one that takes its place when the block ends without an
    exception; else nothing of it is left.

    Raises RmapReplayError if it exists and `force` is not set, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not force:
        raise RmapReplayError(f"{path}: exists (--force replaces it)")
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes, *, force: bool = False) -> None:
    """Write a file as whole_file() does."""
    with whole_file(path, force=force) as file:
        file.write(content.encode() if isinstance(content, str) else content)
