# SPDX-License-Identifier: GPL-2.0-only
"""Files that may be elsewhere: paths, and URLs of whatever file systems fsspec knows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rmapreplay.traces.errors import RmapReplayError


class Writable(Protocol):
    """What bytes can be written to."""

    def write(self, block: bytes, /) -> int: ...


def is_url(place: str | Path) -> bool:
    """Whether it is a URL, as `http://host/file` or `memory://file`; else it is a path."""
    return isinstance(place, str) and bool(re.match(r"[A-Za-z][A-Za-z0-9+.\-]+(::|://)", place))


def local_path(place: str | Path) -> Path | None:
    """The path of what is on this machine, if it is: file:// URLs are paths too."""
    if not is_url(place):
        return Path(place)
    if str(place).lower().startswith(("file://", "local://")):
        from fsspec.implementations.local import LocalFileSystem

        return Path(LocalFileSystem._strip_protocol(place))
    return None


def only_in_this_process(place: str | Path) -> bool:
    """Whether no other process of this machine can read it."""
    return isinstance(place, str) and place.lower().startswith("memory://")


@contextmanager
def file_system(url: str) -> Iterator[tuple[Any, str]]:
    """The file system that a URL is of, and the path in it. What goes wrong inside the block
    becomes an RmapReplayError that names the URL."""
    import fsspec

    try:
        yield fsspec.core.url_to_fs(url)
    except RmapReplayError:
        raise
    except FileNotFoundError as error:
        # Of http this means as well that there is no server.
        cause = error.__cause__
        if isinstance(cause, OSError) or getattr(cause, "status", 404) != 404:
            assert cause is not None
            raise RmapReplayError(f"{url}: cannot be read: {_one_line(cause)}") from error
        raise RmapReplayError(f"{url}: no such file") from error
    except ImportError as error:
        if url.startswith("http"):
            reason = "needs aiohttp (pip install 'rmapreplay[http]')"
        else:
            reason = f"cannot be read here: {error}"
        raise RmapReplayError(f"{url}: {reason}") from error
    except Exception as error:  # each file system has errors of its own, without a common base
        raise RmapReplayError(f"{url}: cannot be read: {_one_line(error)}") from error


def fetch(url: str, file: Writable) -> None:
    """Append what a URL holds to a file. Raises RmapReplayError if it cannot be read.

    From beginning to end: a server need not know of ranges.
    """
    with file_system(url) as (system, path), system.open(path, "rb") as remote:
        shutil.copyfileobj(remote, file, 1 << 20)


def _one_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__
