# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios as C programs: compiled as strictly as can be, and run on this kernel."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rmapreplay.traces.scenarios import ScenarioError, library, parse, read_scenario, to_c

FLAGS = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
BIG = ("aim7", "question_c")  # a thousand processes; compiled here, and run by hand

Built = Callable[[str], Path]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    """built(source) is the program."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler")

    def build(source: str) -> Path:
        program = tmp_path / "program"
        command = ["cc", *FLAGS, "-x", "c", "-", "-o", str(program)]
        subprocess.run(command, input=source, text=True, check=True)
        return program

    return build


def run(program: Path, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.mark.parametrize("name", library())
def test_the_library_runs_here(built: Built, name: str) -> None:
    scenario = read_scenario(library()[name])
    program = built(to_c(scenario))
    if name in BIG:
        return
    done = run(program)
    assert done.stderr == ""
    assert done.returncode == 0
    told = [line[6:] for line in done.stdout.splitlines() if not line.startswith("      ")]
    assert [line for line in told if not line.startswith("the scenario is about")] == [
        step.words for step in scenario.steps
    ]


EVERYTHING = """
A map x 4
A write x 2
A vfork B
B write x+2
B exec
B map x 4
B write x
A vfork C
C exit
A brk heap+3
A write heap 3
A map f 4 r file lib at 2
A read f+1
A map g 4 growsdown noreserve
A write g-2
A map s 2 shared
A write s
A lock x 1 onfault
A unlock x 1
A protect x 1 r
A advise x dontfork
A bind x interleave
A advise x dofork
A populate x+3 1
A swap_out f+1
A swap_in f+1
walk A x
A map x 2 fixed locked
A map d 4
A write d 4
A move d e dontunmap
A resize f 4 to 2
A raw prctl flags=65 addr=0
A lock_all current future
A unlock_all
B exit
A fork B
B exec
"""


def test_every_call_is_made_and_checked(built: Built) -> None:
    done = run(built(to_c(parse(EVERYTHING))))
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A map x 4\nA map x+2 4", "scenario:2: A map x+2 4: File exists"),
        ("A map x 4\nA write x+4", "scenario:2: A write x+4: the process died of it"),
        ("A map x 1\nA protect x 2 r", "scenario:2: A protect x 2 r: Cannot allocate memory"),
        ("A exec\nA move 0x710000000000 y 1", "scenario:2: A move 0x710000000000 y 1: Bad address"),
    ],
)
def test_a_call_that_fails_is_named(built: Built, text: str, reason: str) -> None:
    done = run(built(to_c(parse(text))))
    assert done.returncode == 1
    assert done.stderr == f"{reason}\n"


def test_a_call_that_is_to_fail_half_way(built: Built) -> None:
    source = to_c(parse("A map x 1\nA protect x 2 r error=12"))
    assert run(built(source)).returncode == 0


def test_it_waits_at_walks_if_asked_to(built: Built) -> None:
    program = built(to_c(parse("A map x 1\nA write x\nwalk A x\nA exit")))
    done = run(program, "--pause", input="\n")
    assert done.returncode == 0
    assert "pagemap at 0x700000000000\n      Enter to go on    4  A exit" in done.stdout
    assert run(program, "--halt").returncode == 2


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("A map x 1\nA vfork B\nA write x", 3, "A is suspended until B execs or exits"),
        ("A exec\nA raw mapping addr=4096 len=4096 offset=0 prot=1 flags=2", 2, "no program"),
        ("A exec\nA fork A flags=0x10000 child_tid=7", 2, "does not clone with flags 0x10000"),
        ("A exec\nA/101 map x 1", 2, "no threads"),
    ],
)
def test_what_no_program_can_do(text: str, line: int, reason: str) -> None:
    with pytest.raises(ScenarioError, match=reason) as error:
        to_c(parse(text))
    assert error.value.line == line


def test_the_text_stays_a_comment(built: Built) -> None:
    text = 'A exec # ends in \\\n# trigraph ??/\nA map x 1 # */ "quoted" \\ ü\n'
    assert run(built(to_c(parse(text)))).returncode == 0
