# SPDX-License-Identifier: GPL-2.0-only
"""A scenario as a C program that makes the same system calls on a live kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rmapreplay.traces.scenarios.compiler import Step
from rmapreplay.traces.scenarios.errors import ScenarioError
from rmapreplay.traces.scenarios.scenario import Scenario
from rmapreplay.traces.scenarios.words import (
    ADVICE,
    CLONE_VFORK,
    CLONE_VM,
    HEAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PLACE_ROOM,
)

_TEMPLATE: Final = Path(__file__).with_name("program.c")

_OPERATIONS: Final = {
    "mmap": "MAP",
    "munmap": "UNMAP",
    "mremap": "MOVE",
    "mprotect": "PROTECT",
    "brk": "BRK",
    "madvise": "ADVISE",
    "mlock": "LOCK",
    "munlock": "UNLOCK",
    "mlockall": "LOCK_ALL",
    "munlockall": "UNLOCK_ALL",
    "mbind": "BIND",
    "mseal": "SEAL",
    "prctl": "PRCTL",
    "populate": "POPULATE",
    "swap_out": "SWAP_OUT",
    "swap_in": "NOTHING",  # the fault that follows does it
    "discard": "NOTHING",
    "walk": "WALK",
    "exec": "EXEC",
    "exit": "EXIT",
}
_BY_ITSELF: Final = ("dup_mmap", "unmap_vmas", "free_pgtables", "exit_mmap")
"""What the kernel does without being asked."""

_COLUMNS: Final = {
    "addr": "addr",
    "len": "len",
    "new_addr": "to",
    "new_len": "new_len",
    "flags": "flags",
    "offset": "offset",
    "prot": "prot",
    "advice": "advice",
    "error": "error",
}


def to_c(scenario: Scenario) -> str:
    """The program, for any C11 compiler and Linux 5.3 or newer; it needs nothing but libc.

    Raises ScenarioError if the scenario does something that no program can ask for, or that it
    would have to do while it is suspended.
    """
    program = _Program(scenario)
    steps = "".join(f"    {step},\n" for step in program.steps())
    name = scenario.path.name if scenario.path else "scenario"
    thp = (scenario.metadata.get("thp") or {}).get("enabled") or "never"
    tables = (
        f'#define SCENARIO {_string(name)}\n#define THP "{thp}"\n'
        f"#define HEAP {HEAP:#x}UL\n#define HEAP_ROOM {PLACE_ROOM:#x}UL\n"
        f"enum {{ ACTORS = {max(1, len(program.actors))}, FILES = {len(program.files)} }};\n\n"
        f"static const struct step steps[] = {{\n{steps}}};\n"
    )
    source = "".join(f"// {_comment(line)}".rstrip() + "\n" for line in scenario.text.splitlines())
    template = _TEMPLATE.read_text(encoding="utf-8")
    before, after = template.split("// @SCENARIO@\n")
    return f"{before}{source}\n{tables}\n{after}"


class _Program:
    """Numbers for processes and files, and the steps."""

    def __init__(self, scenario: Scenario) -> None:
        self.actors: dict[int, int] = {}
        self.files: dict[int, int] = {}
        self._scenario = scenario
        self._suspended: dict[int, str] = {}  # parents of a vfork, by pid
        self._waiting: dict[int, int] = {}  # and their children's pids, to the parent's

    def steps(self) -> Iterator[str]:
        for step in self._scenario.steps:
            if step.columns["op"] not in _BY_ITSELF:
                yield self._step(step)

    def _fail(self, step: Step, reason: str) -> ScenarioError:
        return ScenarioError(reason, path=self._scenario.path, line=step.line, column=1)

    def _step(self, step: Step) -> str:
        columns = step.columns
        op, pid = columns["op"], columns["pid"]
        if columns["tid"] != pid:
            raise self._fail(step, "a program of this kind has no threads")
        if pid in self._suspended and op != "walk":
            child = self._suspended[pid]
            raise self._fail(step, f"{step.actor} is suspended until {child} execs or exits")
        fields: dict[str, Any] = {
            "line": step.line,
            "text": _string(step.words),
            "op": _OPERATIONS.get(op),
            "actor": self._actor(pid),
        }
        for column, field in _COLUMNS.items():
            if value := columns.get(column):
                fields[field] = value
        if op == "fault":
            fields |= {"op": "WRITE" if columns["write"] else "READ", "len": step.rows * PAGE}
        elif op == "populate":
            write = columns["write"]
            fields["advice"] = ADVICE["populate_write" if write else "populate_read"]
        elif op == "fork":
            fields |= self._fork(step)
        elif op == "mremap" and columns["addr"] != columns["new_addr"]:
            fields["flags"] = columns["flags"] | MREMAP_MAYMOVE | MREMAP_FIXED
        elif op == "mmap" and columns.get("file"):
            fields["file"] = self._number(self.files, columns["file"]) + 1
        if fields["op"] is None:
            raise self._fail(step, f"no program can ask for '{op}'")
        if op in ("exec", "exit") and pid in self._waiting:
            self._suspended.pop(self._waiting.pop(pid))
        return (
            "{" + ", ".join(f".{name} = {_number(value)}" for name, value in fields.items()) + "}"
        )

    def _fork(self, step: Step) -> dict[str, Any]:
        flags, pid, child = step.columns["flags"], step.columns["pid"], step.columns["child"]
        if flags not in (0, CLONE_VM | CLONE_VFORK):
            raise self._fail(step, f"a program of this kind does not clone with flags {flags:#x}")
        if flags:
            self._suspended[pid] = step.child or str(child)
            self._waiting[child] = pid
        return {"op": "VFORK" if flags else "FORK", "child": self._actor(child), "flags": flags}

    def _actor(self, pid: int) -> int:
        return self._number(self.actors, pid)

    @staticmethod
    def _number(numbers: dict[int, int], key: int) -> int:
        return numbers.setdefault(key, len(numbers))


def _number(value: Any) -> str:
    if isinstance(value, int) and value > 9999:
        return f"{value:#x}"
    return str(value)


def _escape(c: str) -> str:
    if c in '\\"?':
        return f"\\{c}"
    return c if " " <= c <= "~" else "".join(f"\\{byte:03o}" for byte in c.encode())


def _string(text: str) -> str:
    return '"' + "".join(map(_escape, text)) + '"'


def _comment(line: str) -> str:
    """A line of a // comment: a backslash at its end would make the next line part of it, and ??/
    is one."""
    return line.replace("??/", "?? /") + ("." if line.rstrip().endswith("\\") else "")
