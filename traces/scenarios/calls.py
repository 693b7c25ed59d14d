# SPDX-License-Identifier: GPL-2.0-only
"""What a process can do: the words for it, and the row of a trace that each becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rmapreplay.traces.scenarios.arguments import Arguments
from rmapreplay.traces.scenarios.words import (
    ADVICE,
    CLONE_VFORK,
    CLONE_VM,
    LOCK_ALL,
    MAP_ANONYMOUS,
    MAP_OPTIONS,
    MAP_PRIVATE,
    MAP_SHARED,
    MLOCK_ONFAULT,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    POLICIES,
    PROTECTIONS,
    READ_WRITE,
)
from rmapreplay.traces.schema import OP_NAMES, WALK_KIND_NAMES

FIRST_DESCRIPTOR: Final = 2
"""Files are numbered from 1, and descriptors from the first that is free, 3."""


@dataclass(frozen=True)
class Call:
    """A row, or as many as there are pages.

    Attributes:
        columns: of the first row, beside time, pid and tid; columns left out are null.
        rows: how many; each is a page further than the one before.
    """

    columns: dict[str, Any]
    rows: int = 1


class Files:
    """Struct files, by name; f7 is number 7."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        if name[0] == "f" and name[1:].isdecimal():
            return int(name[1:])
        return self._numbers.setdefault(name, 1 + len(self._numbers))


Maker = Callable[[Arguments, Files], Call]


def _range(op: str) -> Maker:
    def call(arguments: Arguments, files: Files) -> Call:
        spot = arguments.spot()
        pages = arguments.pages(spot)
        return Call({"op": op, "addr": spot.address, "len": pages * PAGE})

    return call


def _map(arguments: Arguments, files: Files) -> Call:
    spot = arguments.spot(new=True)
    pages = arguments.pages(spot)
    spot.took(pages)
    prot = READ_WRITE
    if (word := arguments.option(*PROTECTIONS)) is not None:
        prot = PROTECTIONS[word]
    flags, shared = 0, False
    where: dict[str, Any] = {}
    while (option := arguments.option(*MAP_OPTIONS, "shared", "file")) is not None:
        if option == "shared":
            shared = True
        elif option == "file":
            number, offset = _file(arguments, files)
            where = {"fd": FIRST_DESCRIPTOR + number, "file": number, "offset": offset}
        else:
            flags |= MAP_OPTIONS[option]
    flags |= (MAP_SHARED if shared else MAP_PRIVATE) | (0 if where else MAP_ANONYMOUS)
    columns = {"op": "mmap", "addr": spot.address, "len": pages * PAGE, "prot": prot}
    return Call({**columns, "flags": flags, **where})


def _file(arguments: Arguments, files: Files) -> tuple[int, int]:
    """A file's number, and the offset in it in bytes: `NAME`, and then maybe `at N` pages."""
    number = files.number(arguments.name("a file's name"))
    offset = 0
    if arguments.option("at"):
        offset = arguments.number("the offset in pages") * PAGE
    return number, offset


def _move(arguments: Arguments, files: Files) -> Call:
    spot = arguments.spot()
    to = arguments.spot(new=True)
    pages = arguments.pages(spot)
    new_pages, flags = pages, MREMAP_MAYMOVE | MREMAP_FIXED
    if arguments.option("to"):
        new_pages = arguments.number("the new number of pages")
    if arguments.option("dontunmap"):
        flags |= MREMAP_DONTUNMAP
    to.took(new_pages)
    return _mremap(spot.address, pages, to.address, new_pages, flags)


def _resize(arguments: Arguments, files: Files) -> Call:
    spot = arguments.spot()
    pages = arguments.pages(spot)
    arguments.choice("'to'", ("to",))
    new_pages = arguments.number("the new number of pages")
    spot.took(new_pages)
    return _mremap(spot.address, pages, spot.address, new_pages, 0)


def _mremap(address: int, pages: int, to: int, new_pages: int, flags: int) -> Call:
    columns = {"op": "mremap", "addr": address, "len": pages * PAGE}
    return Call({**columns, "new_addr": to, "new_len": new_pages * PAGE, "flags": flags})


def _protect(arguments: Arguments, files: Files) -> Call:
    call = _range("mprotect")(arguments, files)
    call.columns["prot"] = arguments.one_of("a protection", PROTECTIONS)
    return call


def _advise(arguments: Arguments, files: Files) -> Call:
    call = _range("madvise")(arguments, files)
    call.columns["advice"] = arguments.one_of("advice", ADVICE)
    return call


def _bind(arguments: Arguments, files: Files) -> Call:
    call = _range("mbind")(arguments, files)
    call.columns["advice"] = arguments.one_of("a policy", POLICIES)
    return call


def _lock(arguments: Arguments, files: Files) -> Call:
    call = _range("mlock")(arguments, files)
    if arguments.option("onfault"):
        call.columns["flags"] = MLOCK_ONFAULT
    return call


def _lock_all(arguments: Arguments, files: Files) -> Call:
    flags = arguments.one_of("what to lock", LOCK_ALL)
    while (more := arguments.option(*LOCK_ALL)) is not None:
        flags |= LOCK_ALL[more]
    return Call({"op": "mlockall", "flags": flags})


def _unlock_all(arguments: Arguments, files: Files) -> Call:
    return Call({"op": "munlockall"})


def _brk(arguments: Arguments, files: Files) -> Call:
    return Call({"op": "brk", "addr": arguments.spot().address})


def _touch(write: bool) -> Maker:
    def call(arguments: Arguments, files: Files) -> Call:
        spot = arguments.spot()
        pages = arguments.pages(spot, 1)
        columns = {"op": "fault", "addr": spot.address, "write": write, "source": "user"}
        if arguments.option("order"):
            columns["order"] = arguments.number("the folio's order")
        return Call(columns, pages)

    return call


def _populate(arguments: Arguments, files: Files) -> Call:
    call = _range("populate")(arguments, files)
    call.columns["write"] = not arguments.option("read")
    return call


def _reclaim(op: str) -> Maker:
    def call(arguments: Arguments, files: Files) -> Call:
        spot = arguments.spot()
        pages = arguments.pages(spot, 1)
        columns: dict[str, Any] = {"op": op, "addr": spot.address, "len": pages * PAGE}
        if op == "swap_in" and arguments.option("read_ahead"):
            columns["flags"] = 1
        return Call(columns)

    return call


def walk(arguments: Arguments, files: Files) -> Call:
    """`walk A x 4 migrate`, from the place on."""
    spot = arguments.spot()
    pages = arguments.pages(spot, 1)
    kind = arguments.option(*WALK_KIND_NAMES[1:]) or "all"
    columns: dict[str, Any] = {"op": "walk", "addr": spot.address, "kind": kind}
    if arguments.option("order"):
        columns["order"] = arguments.number("the folio's order")
    return Call(columns, pages)


def _exec(arguments: Arguments, files: Files) -> Call:
    return Call({"op": "exec"})


def _exit(arguments: Arguments, files: Files) -> Call:
    return Call({"op": "exit"})


def _raw(arguments: Arguments, files: Files) -> Call:
    return Call({"op": arguments.choice("an operation", OP_NAMES)})


VERBS: Final[dict[str, Maker]] = {
    "map": _map,
    "unmap": _range("munmap"),
    "move": _move,
    "resize": _resize,
    "protect": _protect,
    "advise": _advise,
    "lock": _lock,
    "unlock": _range("munlock"),
    "lock_all": _lock_all,
    "unlock_all": _unlock_all,
    "bind": _bind,
    "seal": _range("mseal"),
    "brk": _brk,
    "write": _touch(True),
    "read": _touch(False),
    "populate": _populate,
    "swap_out": _reclaim("swap_out"),
    "swap_in": _reclaim("swap_in"),
    "discard": _reclaim("discard"),
    "exec": _exec,
    "exit": _exit,
    "raw": _raw,
}
"""By the word; fork and vfork make processes, which the compiler knows about."""

FORKS: Final = {"fork": 0, "vfork": CLONE_VM | CLONE_VFORK}
