# SPDX-License-Identifier: GPL-2.0-only
"""Commands that README.md and docs/ name are commands: each parses, with every option it is given.
And docs/cli.md says what the program says of itself."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
import typer

from rmapreplay.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES.remove(ROOT / "docs" / "cli.md")  # its usage lines are no commands

_LINE = re.compile(r"^(?: {4}|\$ |)(?:[\w/]*/)?(rmapreplay (?:.*\\\n)*.*)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$|(?:^    .*\n)+", re.MULTILINE | re.DOTALL)


def commands(text):
    """The commands in the code of a page, each as a list of words."""
    for code in _CODE.findall(text):
        for line in _LINE.findall(code):
            for command in re.split(r" && ", line.replace("\\\n", " ")):
                words = shlex.split(command, comments=True)
                ends = (i for i, word in enumerate(words) if word in ("|", ">", "&", ";"))
                yield words[: next(ends, len(words))]


FOUND = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words)}")
    for page in PAGES
    for words in commands(page.read_text())
    if words[0] == "rmapreplay"
]


def parse(words):
    """Parse as the program does, and run nothing."""
    group = typer.main.get_command(app)
    context = group.make_context("rmapreplay", list(words))
    while hasattr(group, "resolve_command"):
        name, group, rest = group.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        context = group.make_context(name, rest, parent=context)
    return context


@pytest.mark.parametrize("words", FOUND)
def test_it_parses(words):
    parse(words[1:])


def test_the_figures_of_the_readme():
    """As the output in docs/compare.md has them, which tests/cli/test_compare.py tries."""
    total = (ROOT / "docs" / "compare.md").read_text().split("total of 21 traces")[1]
    told = (ROOT / "README.md").read_text()
    for line, word in (
        ("visits", "makes {:.2f} times the visits"),
        ("useless", "{:.1f} times those"),
    ):
        ratio = float(re.search(rf"^{line} .* ([\d.]+)$", total, re.MULTILINE)[1])
        assert word.format(ratio) in told
    memory = float(re.search(r"^bytes at peak .* ([\d.]+)$", total, re.MULTILINE)[1])
    assert round(memory, 1) == 0.1
    assert "a tenth of the memory" in told


def test_set_up_is_two_commands():
    text = (ROOT / "README.md").read_text()
    block = text[text.index("## Set up") : text.index("## Use it")]
    assert re.findall(r"^    (.*)$", block, re.MULTILINE) == ["make demo", "make test"]


def test_there_are_many():
    assert len(FOUND) > 60
    named = {param.values[0][1] for param in FOUND if "README" in param.id}
    assert named >= {"run", "compare", "batch", "explain", "scenario", "capture", "check-model"}


@pytest.mark.parametrize("words", ["run x --modle cow", "compere x", "run x -m cow --walks"])
def test_a_wrong_one_would_not(words):
    with pytest.raises(typer.TyperException):
        parse(shlex.split(words))


def test_the_reference_is_current():
    program = runpy.run_path(str(ROOT / "docs" / "cli_reference.py"))
    assert program["page"]() == (ROOT / "docs" / "cli.md").read_text(), "run make docs-written"


def test_the_reference_is_whole():
    text = (ROOT / "docs" / "cli.md").read_text()
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        for each in getattr(command, "commands", {name: command}).values():
            path = name if each is command else f"{name} {each.name}"
            part = text[text.index(f"`rmapreplay {path}`\n") :]
            for param in each.params:
                for option in param.opts if param.param_type_name == "option" else ():
                    assert option in part.split("\n### ")[0], f"{path} {option}"
