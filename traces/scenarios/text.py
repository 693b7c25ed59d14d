# SPDX-License-Identifier: GPL-2.0-only
"""Any trace as the text of a scenario, which makes the same rows again but for their times."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from rmapreplay.traces.scenarios.calls import FIRST_DESCRIPTOR, FORKS
from rmapreplay.traces.scenarios.words import (
    ADVICE,
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
    PLACE_ROOM,
    POLICIES,
    PROTECTIONS,
    READ_WRITE,
    THP_MODES,
)

if TYPE_CHECKING:
    from rmapreplay.traces.reader import Trace

Row = Mapping[str, Any]
Columns = dict[str, Any]

_KEPT: Final = ("stack_limit", "teardown", "fault_orders", "description", "command")
"""What metadata a replay is told by, or a reader may want, beside kernel and thp."""

_LETTERS: Final = "xyzuvw"
_HEX: Final = {"addr", "len", "new_addr", "new_len", "offset", "flags", "vm_flags"}
_PROTECTION_WORDS: Final = {value: word for word, value in PROTECTIONS.items()}
_ADVICE_WORDS: Final = {value: word for word, value in ADVICE.items()}
_POLICY_WORDS: Final = {value: word for word, value in POLICIES.items()}
_LOCK_ALL_WORDS: Final = {value: word for word, value in LOCK_ALL.items()}


def to_text(
    trace: Trace | Iterable[Row],
    metadata: Mapping[str, Any] | None = None,
    *,
    about: str = "",
    times: bool = False,
) -> str:
    """Write a trace as a scenario.

    Args:
        trace: a trace, or rows with columns as they are in a file; what they leave out is null,
            a tid is the pid.
        metadata: of the trace; by default the trace's own.
        about: a comment to begin with.
        times: also keep each row's time. Else rows are a microsecond apart.

    Processes are called p and their pid, threads p100/101; addresses that something was mapped at
    get names. What the language has no words for is written as `raw`, or as columns at the end of
    a line, so that parse(to_text(trace)).trace() replays as the trace does. Expectations in the
    metadata are left out: they are about the lines of the text that they came from.
    """
    if metadata is None:
        metadata = getattr(trace, "metadata", {})
    rows = [_clean(row) for row in _rows(trace)]
    places = _PlaceNames(rows)
    lines = [f"# {line}".rstrip() for line in about.splitlines()]
    lines += _header(metadata, any(row["op"] == "fault" and row.get("order") for row in rows))
    body = list(_calls(rows, places, times))
    return "".join(f"{line}\n" for line in [*lines, *places.lines(), *body])


def _rows(trace: Trace | Iterable[Row]) -> Iterable[Row]:
    frame = getattr(trace, "frame", None)
    if frame is None:
        assert not isinstance(trace, str)
        return trace  # type: ignore[return-value]
    return frame().iter_rows(named=True)  # type: ignore[no-any-return]


def _clean(row: Row) -> Columns:
    kept = {name: value for name, value in row.items() if value is not None}
    kept.setdefault("tid", kept["pid"])
    return kept


def _header(metadata: Mapping[str, Any], orders: bool) -> Iterator[str]:
    kernel = metadata.get("kernel")
    plain = isinstance(kernel, str) and not set(kernel) & set(' \t#"')
    yield f"kernel {kernel}" if plain else f"metadata kernel {json.dumps(kernel)}"
    thp = metadata.get("thp") or {}
    if thp.get("enabled") in THP_MODES and isinstance(thp.get("use_zero_page", True), bool):
        yield f"thp {thp['enabled']}" + ("" if thp.get("use_zero_page", True) else " no_zero_page")
    elif thp:
        yield f"metadata thp {json.dumps(thp)}"
    for key in _KEPT:
        if metadata.get(key) is not None:
            yield f"metadata {key} {json.dumps(metadata[key])}"
    if orders and metadata.get("fault_orders") is None:
        yield "metadata fault_orders false"


class _PlaceNames:
    """Names for the addresses that things are mapped at."""

    def __init__(self, rows: Iterable[Columns]) -> None:
        starts = set()
        for row in rows:
            if row["op"] in ("mmap", "mapping"):
                starts.add(row.get("addr", 0))
            elif row["op"] == "mremap":
                starts.add(row["new_addr"])
        self._starts = sorted(start for start in starts if start and start % PAGE == 0)
        self._names: dict[int, str] = {}

    def spot(self, address: int) -> str:
        """What a page is called: x, x+3, or its address."""
        at = bisect_right(self._starts, address)
        start = self._starts[at - 1] if at else None
        if start is None or address - start >= PLACE_ROOM:
            return f"{address:#x}"
        name = self._names.get(start)
        if name is None:
            name = self._names[start] = self._new_name()
        offset = (address - start) // PAGE
        return f"{name}+{offset}" if offset else name

    def _new_name(self) -> str:
        number = len(self._names)
        return _LETTERS[number] if len(self._starts) <= len(_LETTERS) else f"m{number + 1}"

    def lines(self) -> Iterator[str]:
        for start, name in self._names.items():
            yield f"place {name} {start:#x}"


def _calls(rows: list[Columns], places: _PlaceNames, times: bool) -> Iterator[str]:
    at = 0
    clock = 0
    while at < len(rows):
        row = rows[at]
        alike = 1 if times else _alike(rows, at)
        if times and row.get("time", clock) != clock:
            clock = row["time"]
            yield f"at {clock}"
        clock += 1000
        yield _line(row, alike, places)
        at += alike


_BY_PAGE: Final = ("fault", "walk")


def _alike(rows: list[Columns], at: int) -> int:
    """How many rows from here on are one line: they differ by their page alone."""
    first = rows[at]
    if first["op"] not in _BY_PAGE or first.get("addr", 1) % PAGE:
        return 1
    same = {name: value for name, value in first.items() if name != "time"}
    count = 1
    while at + count < len(rows):
        row = rows[at + count]
        wanted = {**same, "addr": first["addr"] + count * PAGE}
        if {name: value for name, value in row.items() if name != "time"} != wanted:
            break
        count += 1
    return count


def _line(row: Columns, alike: int, places: _PlaceNames) -> str:
    """The rows as one line: words as far as there are any, then columns for what they do not
    say."""
    actor = f"p{row['pid']}" + ("" if row["tid"] == row["pid"] else f"/{row['tid']}")
    columns = {
        name: value for name, value in row.items() if name not in ("time", "op", "pid", "tid")
    }
    words, said = _words(row["op"], columns, alike, places)
    rest = [f"{name}=null" for name in said if name not in columns]
    rest += [
        f"{name}={_value(name, value)}"
        for name, value in columns.items()
        if name not in said or said[name] != value
    ]
    if row["op"] == "walk" and words[0] != "raw":
        return " ".join(["walk", actor, *words, *rest])
    return " ".join([actor, *words, *rest])


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    return f"{value:#x}" if name in _HEX and value > 9 else str(value)


def _words(op: str, row: Columns, alike: int, places: _PlaceNames) -> tuple[list[str], Columns]:
    """The words for a row, and the columns that they stand for."""
    write = _WRITERS.get(op)
    if write is None or row.get("addr", 0) % PAGE or row.get("len", 0) % PAGE:
        return ["raw", op], {}
    if "addr" in row and "len" in row and not row["len"]:
        return ["raw", op], {}
    return write(row, alike, places) or (["raw", op], {})


Written = tuple[list[str], Columns] | None


def _span(row: Columns, places: _PlaceNames) -> tuple[list[str], Columns]:
    words = [places.spot(row["addr"]), str(row["len"] // PAGE)]
    return words, {"addr": row["addr"], "len": row["len"]}


def _plain(verb: str) -> Any:
    def write(row: Columns, alike: int, places: _PlaceNames) -> Written:
        words, said = _span(row, places)
        return [verb, *words], said

    return write


def _named(verb: str, column: str, names: Mapping[int, str]) -> Any:
    def write(row: Columns, alike: int, places: _PlaceNames) -> Written:
        words, said = _span(row, places)
        value = row[column]
        return [verb, *words, names.get(value, str(value))], {**said, column: value}

    return write


def _mmap(row: Columns, alike: int, places: _PlaceNames) -> Written:
    words, said = _span(row, places)
    prot, flags = row["prot"], row["flags"]
    if prot in _PROTECTION_WORDS:
        words += [] if prot == READ_WRITE else [_PROTECTION_WORDS[prot]]
        said["prot"] = prot
    else:
        said["prot"] = READ_WRITE
    told = MAP_PRIVATE
    if flags & 3 == MAP_SHARED:
        words.append("shared")
        told = MAP_SHARED
    for word, bit in MAP_OPTIONS.items():
        if flags & bit:
            words.append(word)
            told |= bit
    offset = row.get("offset", 0)
    if "file" in row and offset % PAGE == 0:
        words += ["file", f"f{row['file']}", *(["at", str(offset // PAGE)] if offset else [])]
        said |= {"fd": FIRST_DESCRIPTOR + row["file"], "file": row["file"], "offset": offset}
    else:
        told |= MAP_ANONYMOUS
    return ["map", *words], {**said, "flags": told}


def _mremap(row: Columns, alike: int, places: _PlaceNames) -> Written:
    pages, new_pages = row["len"] // PAGE, row["new_len"] // PAGE
    if row["new_len"] % PAGE or row["new_addr"] % PAGE or not new_pages:
        return None
    said = {name: row[name] for name in ("addr", "len", "new_addr", "new_len")}
    here, to = places.spot(row["addr"]), places.spot(row["new_addr"])
    if row["addr"] == row["new_addr"]:
        words = ["resize", here, str(pages), "to", str(new_pages)]
        return words, {**said, "flags": 0}
    words = ["move", here, to, str(pages)]
    if pages != new_pages:
        words += ["to", str(new_pages)]
    flags = MREMAP_MAYMOVE | MREMAP_FIXED
    if row["flags"] & MREMAP_DONTUNMAP:
        words.append("dontunmap")
        flags |= MREMAP_DONTUNMAP
    return words, {**said, "flags": flags}


def _mlock(row: Columns, alike: int, places: _PlaceNames) -> Written:
    words, said = _span(row, places)
    if row.get("flags") == MLOCK_ONFAULT:
        return ["lock", *words, "onfault"], {**said, "flags": MLOCK_ONFAULT}
    return ["lock", *words], said


def _mlockall(row: Columns, alike: int, places: _PlaceNames) -> Written:
    flags = row["flags"]
    words = [word for value, word in _LOCK_ALL_WORDS.items() if flags & value]
    if not words or flags >> len(_LOCK_ALL_WORDS):
        return None
    return ["lock_all", *words], {"flags": flags}


def _munlockall(row: Columns, alike: int, places: _PlaceNames) -> Written:
    return ["unlock_all"], {}


def _brk(row: Columns, alike: int, places: _PlaceNames) -> Written:
    return ["brk", places.spot(row["addr"])], {"addr": row["addr"]}


def _fault(row: Columns, alike: int, places: _PlaceNames) -> Written:
    words = ["write" if row["write"] else "read", places.spot(row["addr"])]
    said = {"addr": row["addr"], "write": row["write"], "source": "user"}
    if alike > 1:
        words.append(str(alike))
    if "order" in row:
        words += ["order", str(row["order"])]
        said["order"] = row["order"]
    return words, said


def _populate(row: Columns, alike: int, places: _PlaceNames) -> Written:
    words, said = _span(row, places)
    more = [] if row["write"] else ["read"]
    return ["populate", *words, *more], {**said, "write": row["write"]}


def _swap_in(row: Columns, alike: int, places: _PlaceNames) -> Written:
    words, said = _span(row, places)
    if row.get("flags") == 1:
        return ["swap_in", *words, "read_ahead"], {**said, "flags": 1}
    return ["swap_in", *words], said


def _walk(row: Columns, alike: int, places: _PlaceNames) -> Written:
    words = [places.spot(row["addr"])] + ([str(alike)] if alike > 1 else [])
    words.append(row["kind"])
    said = {"addr": row["addr"], "kind": row["kind"]}
    if "order" in row:
        words += ["order", str(row["order"])]
        said["order"] = row["order"]
    return words, said


def _fork(row: Columns, alike: int, places: _PlaceNames) -> Written:
    verb = "vfork" if row["flags"] == FORKS["vfork"] else "fork"
    child = row["child"]
    return [verb, f"p{child}"], {"flags": FORKS[verb], "child": child, "child_tid": child}


def _exec(row: Columns, alike: int, places: _PlaceNames) -> Written:
    return ["exec"], {}


def _exit(row: Columns, alike: int, places: _PlaceNames) -> Written:
    return ["exit"], {}


_WRITERS: Final[dict[str, Any]] = {
    "mmap": _mmap,
    "munmap": _plain("unmap"),
    "mremap": _mremap,
    "mprotect": _named("protect", "prot", _PROTECTION_WORDS),
    "madvise": _named("advise", "advice", _ADVICE_WORDS),
    "mbind": _named("bind", "advice", _POLICY_WORDS),
    "mlock": _mlock,
    "munlock": _plain("unlock"),
    "mlockall": _mlockall,
    "munlockall": _munlockall,
    "mseal": _plain("seal"),
    "brk": _brk,
    "fault": _fault,
    "populate": _populate,
    "swap_out": _plain("swap_out"),
    "swap_in": _swap_in,
    "discard": _plain("discard"),
    "walk": _walk,
    "fork": _fork,
    "exec": _exec,
    "exit": _exit,
}
"""By operation; what has none is written as `raw`."""
