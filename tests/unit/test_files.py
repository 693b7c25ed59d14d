# SPDX-License-Identifier: GPL-2.0-only
"""Files that are there whole, or not at all."""

from pathlib import Path

import pytest

from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.files import write_whole


def test_a_file_is_written_and_nothing_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "text")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "text"}


def test_what_is_there_stays_unless_forced(tmp_path: Path) -> None:
    there = tmp_path / "a"
    there.write_text("old")
    with pytest.raises(RmapReplayError, match=r"a: exists \(--force replaces it\)"):
        write_whole(there, b"new")
    assert there.read_text() == "old"
    write_whole(there, b"new", force=True)
    assert there.read_text() == "new"


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RmapReplayError, match="cannot write: No such file or directory"):
        write_whole(tmp_path / "none" / "a", "text")
    assert not list(tmp_path.iterdir())
