# SPDX-License-Identifier: GPL-2.0-only
"""What the shell offers on TAB where the program knows better than the shell: traces, models, walk
policies. Nothing here prints or fails: what cannot be read is not offered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_WALKS = {
    "scan:16": "of every live folio, at so many points",
    "every:100000": "of every live folio, after each so many events",
    "sample:1000@1": "so many in all, at random; then the seed",
    "reclaim:64": "after each so many events, of the folio that the clock hand comes to",
    "end": "of every folio that lives at the end",
    "none": "only those that the trace recorded",
}


def walk_policies(incomplete: str) -> list[tuple[str, str]]:
    """A policy of each kind, to be changed."""
    return [(policy, told) for policy, told in _WALKS.items() if policy.startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    """Models by name, and files that may hold one. After a comma the next."""
    from rmapreplay.rmap_models.registry import names

    before, comma, last = incomplete.rpartition(",")
    found = [name for name in names() if name.startswith(last)]
    if last:
        found += _files(last, (".py", ".so"))
    return [f"{before}{comma}{each}" for each in found]


def traces(incomplete: str) -> list[str]:
    """Traces and scenarios."""
    return _files(incomplete, (".parquet", ".scn"))


def scenarios(incomplete: str) -> list[str]:
    """Scenarios that come along, by name, and those in files."""
    from rmapreplay.traces.scenarios import library

    return [
        *(name for name in library() if name.startswith(incomplete)),
        *_files(incomplete, (".scn",)),
    ]


def cost_models(incomplete: str) -> list[str]:
    """Cost models that come along, and files."""
    return [
        *(name for name in ("warm", "cold") if name.startswith(incomplete)),
        *_files(incomplete, (".toml",)),
    ]


def _files(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Files and directories that begin so. Shells put a space after a word that is the only one,
    and so end it: where that would be a directory, what lies in it is offered instead."""
    found = list(_entries(incomplete, suffixes))
    while len(found) == 1 and found[0].endswith("/"):
        found = list(_entries(found[0], suffixes))
    return found


def _entries(incomplete: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    folder, slash, begun = incomplete.rpartition("/")
    with suppress(OSError):
        for entry in sorted(Path(folder + slash).expanduser().iterdir()):
            name = entry.name
            if not name.startswith(begun) or (name.startswith(".") and not begun):
                continue
            if entry.is_dir():
                yield f"{folder}{slash}{name}/"
            elif name.endswith(suffixes) and not name.endswith(".truth.parquet"):
                yield f"{folder}{slash}{name}"
