# SPDX-License-Identifier: GPL-2.0-only
"""Which traces a corpus has: from directories, files, globs, lists and URLs of these."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.places import fetch, file_system, is_url, local_path

SUFFIXES: Final = (".parquet", ".scn")
"""What in a directory is taken for a trace."""

_LIST_SUFFIX: Final = ".txt"
_TRUTH_SUFFIX: Final = ".truth.parquet"


@dataclass(frozen=True)
class Source:
    """A trace of a corpus.

    Attributes:
        name: its path below the directory that was given, without suffix; unique in the corpus.
        place: its path or URL.
    """

    name: str
    place: str


def find_traces(corpus: Sequence[str | Path], *, apart_from: Path) -> list[Source]:
    """The traces of a corpus, by name. Answer keys (*.truth.parquet), hidden files, and what lies
    in `apart_from`, where the results go, are none.

    Args:
        corpus: directories (with all below), traces, globs, text files (*.txt) with a path or URL
            of a trace on each line, and URLs of all these. The paths in a list are relative to it.

    Raises RmapReplayError if there are none, one of `corpus` cannot be read, or two would have the
    same name.
    """
    found: dict[str, Source] = {}
    for given in corpus:
        path = local_path(given)
        sources = _in_path(path, apart_from) if path is not None else _at_url(str(given))
        anything = False
        for source in sources:
            anything = True
            if source.place.endswith(_TRUTH_SUFFIX):
                continue
            other = found.setdefault(source.name, source)
            if other.place != source.place:
                raise RmapReplayError(
                    f"two traces would be called '{source.name}': {other.place} and "
                    f"{source.place}; give a directory above both"
                )
        if not anything:
            raise RmapReplayError(f"{given}: no traces there")
    if not found:
        raise RmapReplayError(f"{', '.join(map(str, corpus))}: no traces there")
    return [found[name] for name in sorted(found)]


def digest(place: str) -> tuple[str, int]:
    """SHA-256, in hex, and length in bytes of what is at a path or URL. Raises RmapReplayError if
    it cannot be read."""
    hashing = _Hashing()
    path = local_path(place)
    if path is None:
        fetch(place, hashing)
    else:
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    hashing.write(block)
        except FileNotFoundError as error:
            raise RmapReplayError(f"{path}: no such file") from error
        except OSError as error:
            raise RmapReplayError(f"{path}: {error.strerror}") from error
    return hashing.sha256.hexdigest(), hashing.length


class _Hashing:
    """A file that keeps nothing but the hash of what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.length = 0

    def write(self, block: bytes, /) -> int:
        self.sha256.update(block)
        self.length += len(block)
        return len(block)


def _in_path(path: Path, apart_from: Path) -> Iterator[Source]:
    if path.is_dir():
        for file in _below(path, apart_from):
            yield _source(str(file), file.relative_to(path).as_posix())
    elif path.suffix == _LIST_SUFFIX:
        try:
            text = path.read_text()
        except OSError as error:
            raise RmapReplayError(f"{path}: {error.strerror}") from error
        for line in _lines(text):
            place = line if is_url(line) else str(path.parent / line)
            yield _source(place, _last(line) if is_url(line) else line)
    elif path.exists() or not glob.has_magic(str(path)):
        if not path.exists():
            raise RmapReplayError(f"{path}: no such file")
        yield _source(str(path), path.name)
    else:
        fixed = _fixed_part(str(path))
        for match in sorted(glob.glob(str(path), recursive=True)):
            if os.path.isfile(match):
                yield _source(match, os.path.relpath(match, fixed or "."))


def _below(directory: Path, apart_from: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (Path(folder) / name).resolve() != apart_from.resolve()
        )
        for name in sorted(files):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield Path(folder) / name


def _at_url(url: str) -> Iterator[Source]:
    file = urlsplit(url).path if url.startswith("http") else url
    if file.endswith(SUFFIXES) and "*" not in url:
        yield _source(url, _last(url))
    elif file.endswith(_LIST_SUFFIX) and "*" not in url:
        text = io.BytesIO()
        fetch(url, text)
        for line in _lines(text.getvalue().decode()):
            if is_url(line):
                yield _source(line, _last(line))
            else:
                yield _source(_beside(url, line), line)
    else:
        yield from _listed(url)


def _listed(url: str) -> Iterator[Source]:
    with file_system(url) as (system, path):
        if "*" in path:
            fixed, places = _fixed_part(path), system.glob(path)
        else:
            fixed, places = path, system.find(path)
        whole = [system.unstrip_protocol(place) for place in sorted(places)]
        top = system.unstrip_protocol(fixed).rstrip("/") + "/"
    for place in whole:
        if place.endswith(SUFFIXES):
            yield _source(place, unquote(place.removeprefix(top)))


def _beside(url: str, line: str) -> str:
    """The URL of a line in the list at `url`."""
    if url.startswith("http"):
        return urljoin(url, line)
    return f"{url.rpartition('/')[0]}/{line}"


def _source(place: str, name: str) -> Source:
    """A trace, named by a path that may have a suffix, and parts that lead nowhere."""
    name = posixpath.normpath(name.replace(os.sep, "/"))
    name = "/".join(part for part in name.split("/") if part not in ("", ".."))
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return Source(name or "trace", place)


def _last(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2] or url.rpartition("/")[2])


def _lines(text: str) -> Iterable[str]:
    """Lines that are neither empty nor comments."""
    stripped = (line.strip() for line in text.splitlines())
    return (line for line in stripped if line and not line.startswith("#"))


def _fixed_part(pattern: str) -> str:
    """The directories before the first part that has a wildcard."""
    *fixed, _ = pattern.split("/")
    for number, part in enumerate(fixed):
        if glob.has_magic(part):
            fixed = fixed[:number]
            break
    return "/".join(fixed) or ("/" if pattern.startswith("/") else "")
