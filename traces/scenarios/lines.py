# SPDX-License-Identifier: GPL-2.0-only
"""The text of a scenario as lines of words that know where they stand, loops not yet unrolled."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, NoReturn

from rmapreplay.traces.scenarios.errors import ScenarioError

_WORD: Final = re.compile(r'(?:[^\s"#]|"(?:[^"\\]|\\.)*")+')
_VARIABLE: Final = re.compile(r"[A-Za-z_]\w*")
_BRACES: Final = re.compile(r"\{([^{}]*)\}")

Variables = Mapping[str, int]
"""Those of the loops around a line, and their values."""


@dataclass(frozen=True)
class Word:
    """A word of a line.

    Attributes:
        text: as it is written.
        line: from 1.
        column: from 1.
        path: of the file.
    """

    text: str
    line: int
    column: int
    path: Path | None

    def error(self, reason: str) -> ScenarioError:
        return ScenarioError(reason, path=self.path, line=self.line, column=self.column)

    def fail(self, reason: str) -> NoReturn:
        raise self.error(reason)


@dataclass(frozen=True)
class Line:
    """A line that says something: its words, and, of a loop, the lines in it.

    Attributes:
        words: at least one.
        text: the line without its comment.
        body: of `for`, up to its `end`.
    """

    words: tuple[Word, ...]
    text: str
    body: list[Line] = field(default_factory=list)

    @property
    def first(self) -> Word:
        return self.words[0]

    @property
    def number(self) -> int:
        return self.first.line


def read_lines(text: str, path: Path | None) -> list[Line]:
    """The lines of a scenario; those of a loop are in its body.

    Raises ScenarioError: a quotation without end, or `for` and `end` that do not match.
    """
    lines: list[Line] = []
    open_loops: list[Line] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        words = tuple(_words(raw, number, path))
        if not words:
            continue
        end = words[-1].column - 1 + len(words[-1].text)
        line = Line(words, raw[words[0].column - 1 : end])
        if words[0].text == "end":
            if len(words) > 1:
                words[1].fail("nothing follows 'end'")
            if not open_loops:
                words[0].fail("'end' without a 'for'")
            open_loops.pop()
            continue
        (open_loops[-1].body if open_loops else lines).append(line)
        if words[0].text == "for":
            open_loops.append(line)
    if open_loops:
        open_loops[-1].first.fail("'for' without an 'end'")
    return lines


def _words(raw: str, number: int, path: Path | None) -> Iterator[Word]:
    at = 0
    while at < len(raw):
        if raw[at].isspace():
            at += 1
        elif raw[at] == "#":
            return
        elif found := _WORD.match(raw, at):
            yield Word(found.group(), number, at + 1, path)
            at = found.end()
        else:
            Word(raw[at:], number, at + 1, path).fail('a quotation that does not end: "')


# ---- numbers ----

_OPERATORS: Final[dict[type[ast.AST], Callable[..., int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


@lru_cache(maxsize=1024)
def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None


def number(text: str, variables: Variables, word: Word) -> int:
    """The value of `text`, a part of `word`: whole numbers, loop variables, + - * // % and ().

    Raises ScenarioError if it is no such thing.
    """
    if text.isdecimal():
        return int(text)
    tree = _parsed(text)
    if tree is None:
        word.fail(f"'{text}' is not a number")

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name):
            if node.id not in variables:
                word.fail(f"'{node.id}' is not a number, nor the variable of a loop around it")
            return variables[node.id]
        if isinstance(node, ast.BinOp) and (apply := _OPERATORS.get(type(node.op))):
            return apply(value(node.left), value(node.right))
        if isinstance(node, ast.UnaryOp) and (apply := _OPERATORS.get(type(node.op))):
            return apply(value(node.operand))
        raise word.error(f"'{text}' is not a number")

    try:
        return value(tree)
    except ZeroDivisionError:
        word.fail(f"'{text}' divides by zero")


def is_number(text: str, variables: Variables) -> bool:
    """Whether a word can only be meant as a number."""
    begins = _VARIABLE.match(text)
    return text[:1].isdigit() or text[:1] in "(+-" or bool(begins and begins.group() in variables)


def filled_in(text: str, variables: Variables, word: Word) -> str:
    """A name, with the values of what stands in its braces: `C{i+1}` is C8 where i is 7."""
    if "{" in text:
        text = _BRACES.sub(lambda found: str(number(found.group(1), variables, word)), text)
    return text
