# SPDX-License-Identifier: GPL-2.0-only
"""The scenarios that come with the program: the .scn files of this folder."""

from __future__ import annotations

from pathlib import Path

from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.reader import SCENARIO_SUFFIX


def library() -> dict[str, Path]:
    """The files, by name, in the order of their names."""
    here = Path(__file__).parent
    return {path.stem: path for path in sorted(here.glob(f"*{SCENARIO_SUFFIX}"))}


def find(name_or_path: str | Path) -> Path:
    """A scenario of the library by its name, or the file that a path names.

    Raises RmapReplayError if it is neither.
    """
    path = Path(name_or_path)
    known = library()
    if path.suffix == SCENARIO_SUFFIX:
        return path
    if path.name == str(name_or_path) and path.name in known:
        return known[path.name]
    raise RmapReplayError(
        f"{name_or_path}: neither a {SCENARIO_SUFFIX} file nor one of the library; "
        "`rmapreplay scenario list` names those"
    )
