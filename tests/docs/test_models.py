# SPDX-License-Identifier: GPL-2.0-only
"""The examples of docs/models.md run as they stand.

A Python block that begins with a file's name is that file; others are programs. `console` blocks
are commands. The trace is a bundled one.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rmapreplay as rr

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "models.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
FILES = {
    match[1]: code
    for language, code in BLOCKS
    if language == "python" and (match := re.match(r"# (\w+\.py)\n", code))
}
PROGRAMS = [code for lang, code in BLOCKS if lang == "python" and code not in FILES.values()]
COMMANDS = [line for lang, code in BLOCKS if lang == "console" for line in code.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(ROOT / "traces" / "corpus" / "forky.parquet", folder / "trace.parquet")
    for name, code in FILES.items():
        (folder / name).write_text(code)
    return folder


def test_there_are_examples():
    assert set(FILES) >= {"brute.py", "priced.py"}
    assert len(PROGRAMS) >= 2
    assert len(COMMANDS) >= 2


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_runs(number, folder):
    program = folder / f"program{number}.py"
    program.write_text(PROGRAMS[number])
    done = subprocess.run(
        [sys.executable, program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command, folder, cli):
    name, *arguments = shlex.split(command)
    assert name == "rmapreplay"
    done = cli(*arguments, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_callback_has_its_row():
    rows = re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`(\w+)\(", row)}
    callbacks = {
        name
        for name, value in vars(rr.RmapModel).items()
        if callable(value) and not name.startswith("_")
    }
    assert callbacks <= described
