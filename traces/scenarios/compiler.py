# SPDX-License-Identifier: GPL-2.0-only
"""From lines to steps: loops unrolled, names resolved, each call as the rows it becomes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rmapreplay.traces.scenarios import calls
from rmapreplay.traces.scenarios.arguments import NAME, Arguments, Places
from rmapreplay.traces.scenarios.calls import FORKS, VERBS, Call, Files
from rmapreplay.traces.scenarios.expect import Before, Expectation, read_expectation
from rmapreplay.traces.scenarios.lines import Line, Word, filled_in, number, read_lines
from rmapreplay.traces.scenarios.words import (
    CLONE_THREAD,
    DIRECTIVES,
    HEAP,
    PAGE,
    THP_MODES,
)
from rmapreplay.traces.schema import NEEDED_COLUMNS

FIRST_PID: Final = 100
_ACTOR: Final = re.compile(r"([A-Za-z_]\w*)(?:/(\d+))?")
_LITERAL_PID: Final = re.compile(r"p(\d+)")
_LOOP: Final = re.compile(r"(.+?)\.\.(.+)")
_NANOSECONDS_A_ROW: Final = 1000
_MOST_PIDS: Final = 1 << 22
_END_OF_ADDRESSES: Final = 1 << 47


@dataclass(frozen=True)
class Step:
    """What one line does, once: rows of a trace that differ by their page alone.

    Attributes:
        line: number of the line.
        words: of the line, filled in.
        actor: name of the process.
        columns: of the first row, with pid and tid; columns left out are null.
        rows: how many.
        row: number of the first.
        time: of the first, in ns.
        child: name of the process that a fork makes.
    """

    line: int
    words: str
    actor: str
    columns: dict[str, Any]
    rows: int
    row: int
    time: int
    child: str | None = None


@dataclass
class _Process:
    pid: int
    alive: bool = True
    has_break: bool = False


class Compiler:
    """Reads a scenario from its first line to its last.

    Attributes:
        metadata: of the trace.
        steps: what happens.
        expectations: what is said to be found.
        names: of processes, by pid; those called by their pid have none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.metadata: dict[str, Any] = {}
        self.steps: list[Step] = []
        self.expectations: list[Expectation] = []
        self._variables: dict[str, int] = {}
        self._places = Places()
        self._files = Files()
        self._processes: dict[str, _Process] = {}
        self.names: dict[int, str] = {}
        self._pids: set[int] = set()
        self._next_pid = FIRST_PID
        self._row = 0
        self._time = 0
        self._before: Before | None = None
        self._directives = {
            "kernel": self._kernel,
            "thp": self._thp,
            "stack_limit": self._stack_limit,
            "metadata": self._metadata,
            "place": self._place,
            "at": self._at,
            "for": self._for,
            "walk": self._walk,
            "expect": self._expect,
        }

    def compile(self, text: str) -> None:
        """Raises ScenarioError."""
        self._do(read_lines(text, self.path))

    def _do(self, lines: list[Line]) -> None:
        for line in lines:
            directive = self._directives.get(line.first.text)
            if directive:
                directive(line)
            else:
                self._call(line)

    def _arguments(self, line: Line, skip: int = 0) -> Arguments:
        return Arguments(line.words[skip:], self._variables, self._places)

    # ---- about the whole ----

    def _header(self, line: Line, key: str, value: Any) -> None:
        if self.steps:
            line.first.fail(f"'{line.first.text}' must come before the first call")
        self.metadata[key] = value

    def _kernel(self, line: Line) -> None:
        arguments = self._arguments(line)
        release = arguments.word("a kernel's release")
        if not re.match(r"\d+\.\d+", release.text):
            release.fail(f"'{release.text}' is not the release of a kernel, such as 7.3")
        arguments.done()
        self._header(line, "kernel", release.text)

    def _thp(self, line: Line) -> None:
        arguments = self._arguments(line)
        enabled = arguments.choice("a mode of transparent huge pages", THP_MODES)
        zero = not arguments.option("no_zero_page")
        arguments.done()
        self._header(line, "thp", {"enabled": enabled, "use_zero_page": zero})

    def _stack_limit(self, line: Line) -> None:
        arguments = self._arguments(line)
        limit = arguments.number("a number of bytes")
        arguments.done()
        self._header(line, "stack_limit", limit)

    def _metadata(self, line: Line) -> None:
        if len(line.words) < 3:
            line.first.fail("'metadata' is followed by a key and its value as JSON")
        key, value = line.words[1], line.words[2]
        text = line.text[value.column - line.first.column :]
        try:
            self._header(line, key.text, json.loads(text))
        except ValueError:
            value.fail(f"'{text}' is not JSON")

    def _place(self, line: Line) -> None:
        arguments = self._arguments(line)
        where = arguments.here
        name = arguments.name("a place's name")
        spot = arguments.spot()
        pages = arguments.pages(spot) if arguments.has_number() else None
        arguments.done()
        if not self._places.declare(name, spot.address, pages):
            where.fail(f"there is a place '{name}' already")

    def _at(self, line: Line) -> None:
        arguments = self._arguments(line)
        where = arguments.here
        time = arguments.number("a time in nanoseconds")
        arguments.done()
        if time < 0 or (self.steps and time < self._time - _NANOSECONDS_A_ROW):
            where.fail(f"{time} is before the line above")
        self._time = time

    def _for(self, line: Line) -> None:
        if len(line.words) < 4 or line.words[2].text != "in":
            line.first.fail("a loop begins as in 'for i in 1..10'")
        variable, range_ = line.words[1], line.words[3]
        if len(line.words) > 4:
            line.words[4].fail(f"'{line.words[4].text}' was not expected here")
        if not NAME.fullmatch(variable.text) or variable.text in RESERVED:
            variable.fail(f"'{variable.text}' cannot be the variable of a loop")
        if variable.text in self._variables:
            variable.fail(f"'{variable.text}' is the variable of a loop around this one")
        found = _LOOP.fullmatch(range_.text)
        if not found:
            range_.fail(f"'{range_.text}' is not a range such as 1..10")
        first, last = (number(part, self._variables, range_) for part in found.groups())
        for value in range(first, last + 1):
            self._variables[variable.text] = value
            self._do(line.body)
        self._variables.pop(variable.text, None)

    # ---- calls ----

    def _call(self, line: Line) -> None:
        actor = line.first
        if len(line.words) < 2:
            actor.fail(f"what does '{actor.text}' do? a call must follow")
        verb = line.words[1]
        found = _ACTOR.fullmatch(filled_in(actor.text, self._variables, actor))
        if not found:
            actor.fail(f"'{actor.text}' is neither a process nor one of {', '.join(DIRECTIVES)}")
        name = found[1]
        arguments = self._arguments(line, skip=1)
        if verb.text in FORKS:
            self._fork(line, name, found[2], arguments)
            return
        make = VERBS.get(verb.text)
        if make is None:
            words = ", ".join([*FORKS, *VERBS])
            verb.fail(f"'{verb.text}' is not a call: one of {words}")
        process = self._process(actor, name, verb.text)
        call = make(arguments, self._files)
        arguments.done()
        if verb.text == "brk":
            self._begin_heap(line, name, process)
        elif verb.text == "exec":
            process.has_break = False
        elif verb.text == "exit":
            process.alive = found[2] is not None and int(found[2]) != process.pid
        self._add(line, name, found[2], process, call, arguments)

    def _walk(self, line: Line) -> None:
        if len(line.words) < 2:
            line.first.fail("a walk is of a page of a process, as in 'walk A x'")
        actor = line.words[1]
        found = _ACTOR.fullmatch(filled_in(actor.text, self._variables, actor))
        if not found:
            actor.fail(f"'{actor.text}' is not a process")
        process = self._process(actor, found[1], "walk")
        arguments = self._arguments(line, skip=1)
        call = calls.walk(arguments, self._files)
        arguments.done()
        self._add(line, found[1], found[2], process, call, arguments)

    def _process(self, word: Word, name: str, verb: str) -> _Process:
        """The process that acts; the first of a scenario, and one that execs, may be new."""
        process = self._processes.get(name)
        if process is None:
            if name in RESERVED:
                word.fail(f"'{name}' is a word of the language, no name for a process")
            process = _Process(self._new_pid(word, name))
            if not _LITERAL_PID.fullmatch(name):
                if verb != "exec" and (self._processes or verb == "walk"):
                    word.fail(f"no process '{name}': nobody forked it, and it did not exec")
                if verb != "exec":
                    self._append(word.line, f"{name} exec", name, {"op": "exec"}, process.pid)
            self._processes[name] = process
        elif not (process.alive or _LITERAL_PID.fullmatch(name) or verb == "raw"):
            if verb != "exec":
                word.fail(f"process '{name}' has exited")
            process.pid = self._new_pid(word, name)
            process.alive = True
        return process

    def _new_pid(self, word: Word, name: str) -> int:
        if literal := _LITERAL_PID.fullmatch(name):
            pid = int(literal[1])
            owners = [other for other, process in self._processes.items() if process.pid == pid]
            if owners and owners != [name]:
                word.fail(f"pid {pid} is that of '{owners[0]}': call the process otherwise")
        else:
            while self._next_pid in self._pids:
                self._next_pid += 1
            pid = self._next_pid
        if pid >= _MOST_PIDS:
            word.fail(f"{pid} is not a process id")
        self._pids.add(pid)
        if not literal:
            self.names[pid] = name
        return pid

    def _fork(self, line: Line, name: str, tid: str | None, arguments: Arguments) -> None:
        verb = line.words[1]
        parent = self._process(line.first, name, verb.text)
        where = arguments.here
        child = arguments.name("the child's name")
        arguments.done()
        flags = arguments.columns.get("flags", FORKS[verb.text]) or 0
        there = self._processes.get(child)
        if child == name and flags & CLONE_THREAD:
            pid = parent.pid
        elif there and there.alive and not _LITERAL_PID.fullmatch(child):
            where.fail(f"there is a process '{child}' already")
        elif child in RESERVED:
            where.fail(f"'{child}' is a word of the language, no name for a process")
        else:
            pid = self._new_pid(where, child)
            self._processes[child] = _Process(pid, has_break=parent.has_break)
        columns = {"op": "fork", "flags": FORKS[verb.text], "child": pid, "child_tid": pid}
        self._add(line, name, tid, parent, Call(columns), arguments, child)

    def _begin_heap(self, line: Line, name: str, process: _Process) -> None:
        """The first break of a process is where its heap begins."""
        if process.has_break or _LITERAL_PID.fullmatch(name):
            return
        process.has_break = True
        columns = {"op": "brk", "addr": HEAP}
        self._append(line.number, f"{name} brk heap", name, columns, process.pid)

    def _add(
        self,
        line: Line,
        name: str,
        tid: str | None,
        process: _Process,
        call: Call,
        arguments: Arguments,
        child: str | None = None,
    ) -> None:
        columns = {**call.columns, **arguments.columns}
        columns = {column: value for column, value in columns.items() if value is not None}
        self._check(line.words[1], columns, call.rows)
        if columns.get("order") and columns["op"] == "fault":
            self.metadata.setdefault("fault_orders", True)
        actor = name if tid is None else f"{name}/{tid}"
        words = " ".join(self._filled(word) for word in line.words[1:])
        words = f"walk {words}" if line.first.text == "walk" else f"{actor} {words}"
        first = self._row
        self._append(line.number, words, name, columns, process.pid, tid, call.rows, child)
        address, is_walk = columns.get("addr", 0), columns["op"] == "walk"
        self._before = Before(first, self._row - 1, address, is_walk)

    def _append(
        self,
        line: int,
        words: str,
        actor: str,
        columns: dict[str, Any],
        pid: int,
        tid: str | None = None,
        rows: int = 1,
        child: str | None = None,
    ) -> None:
        columns = {**columns, "pid": pid, "tid": pid if tid is None else int(tid)}
        self.steps.append(Step(line, words, actor, columns, rows, self._row, self._time, child))
        self._row += rows
        self._time += rows * _NANOSECONDS_A_ROW

    def _check(self, word: Word, columns: dict[str, Any], rows: int) -> None:
        """What a reader of the rows would find fault with."""
        op = columns["op"]
        for column in NEEDED_COLUMNS[op]:
            if column not in columns:
                word.fail(f"{op} needs the column {column}")
        start, length = columns.get("addr", 0), columns.get("len", 0)
        if max(start + (rows - 1) * PAGE, columns.get("new_addr", 0)) >= _END_OF_ADDRESSES:
            word.fail("the address is outside the address space")
        if start + length >= 1 << 64:
            word.fail("the range goes past the end of the address space")

    def _filled(self, word: Word) -> str:
        """A word as it is to be read outside its loop."""
        text = filled_in(word.text, self._variables, word)
        if not self._variables:
            return text
        return _VARIABLES.sub(lambda found: str(self._variables.get(found[0], found[0])), text)

    # ---- expectations ----

    def _expect(self, line: Line) -> None:
        arguments = self._arguments(line)
        self.expectations.append(read_expectation(line, arguments, self._before, self._seen))

    def _seen(self, word: Word) -> dict[str, Any]:
        """One visit of `expect ... visited`: `A+`, or `A@y-` for a VMA elsewhere."""
        found = re.fullmatch(r"([^@]+)(?:@(.+))?([+-])", word.text)
        if not found:
            word.fail(
                f"'{word.text}' is not a visit: A+ is one that found the page, A- one in vain"
            )
        name = filled_in(found[1], self._variables, word)
        process = self._processes.get(name)
        if process is None:
            word.fail(f"no process '{name}'")
        seen: dict[str, Any] = {"pid": process.pid, "name": name, "hit": found[3] == "+"}
        if found[2] is not None:
            spot = self._places.find(replace(word, text=found[2]), self._variables)
            seen["address"] = spot.address
        return seen


RESERVED: Final = {*DIRECTIVES, *VERBS, *FORKS, "in", "whole", "to", "heap"}
_VARIABLES: Final = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
