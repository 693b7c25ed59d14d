# SPDX-License-Identifier: GPL-2.0-only
"""Why a visit was useless and why a walk ended, in words: no more than state and trace show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rmapreplay.analysis.inspect.moment import LOCKED

if TYPE_CHECKING:
    from rmapreplay.analysis.inspect.history import Touch
    from rmapreplay.analysis.inspect.moment import Mm, Vma


@dataclass(frozen=True)
class Reason:
    """`code` is the same for like reasons, `row` the row of the trace that `text` names."""

    code: str
    text: str
    row: int | None = None


NONE: Final = Reason("", "")

CODES: Final = {
    "own_write": "another folio: its own, since a write",
    "inherited": "another folio, there since its fork",
    "other_folio": "another folio",
    "torn_down": "nothing: its address space is being torn down",
    "unmapped": "nothing: unmapped, or its pages given up",
    "mapped_anew": "nothing: mapped anew and not written since",
    "not_since_fork": "nothing: not written since its fork",
    "never_written": "nothing: never written",
    "nothing": "nothing",
    "swap": "a swap entry",
    "zero_page": "the zero page: read, not written",
    "guard": "a guard marker",
}
"""Every reason for a useless visit, as a summary of many has it."""

_MAPS: Final = ("mmap", "mapping")
_TAKES_AWAY: Final = ("munmap", "mremap", "discard", "MADV_DONTNEED", "MADV_FREE", "MADV_REMOVE")
_TAKES_AWAY_TOO: Final = ("MADV_DONTNEED_LOCKED", "MADV_GUARD_REMOVE")


def useless(seen: Mapping[str, Any], vma: Vma, mm: Mm, touch: Touch | None) -> Reason:
    """Why the folio was not found in a VMA, where `seen` is; `touch` is the last row that touched
    that page since the mm was born."""
    row = touch.row if touch else None
    by = f"{touch.op} at row {touch.row:,}" if touch else ""
    since_fork = f"its fork at row {mm.born:,}"
    match seen["what"]:
        case "folio":
            shared = seen["mapcount"] > 1
            also = f", mapped {seen['mapcount']} times now" if shared else ""
            if touch and touch.op in ("write fault", "populate"):
                return Reason("own_write", f"another folio, its own since the {by}{also}", row)
            if touch:
                return Reason("other_folio", f"another folio{also} (last: {by})", row)
            if mm.how == "fork":
                text = f"another folio{also}, there since {since_fork}"
                return Reason("inherited", text, mm.born)
            return Reason("other_folio", f"another folio{also}")
        case "swap":
            return Reason("swap", "a swap entry there" + (f" ({by})" if by else ""), row)
        case "zero_page":
            return Reason("zero_page", "the zero page there: read, not written")
        case "guard":
            return Reason("guard", "a guard marker there" + (f" ({by})" if by else ""), row)
    nothing = "no anonymous page there" if vma.kind == "file" else "nothing mapped there"
    if mm.state == "dying":
        return Reason("torn_down", f"{nothing}: its address space is being torn down")
    if touch and touch.op in _MAPS:
        text = f"{nothing}: mapped anew by {by}, not written since"
        return Reason("mapped_anew", text, row)
    if touch and touch.op in (*_TAKES_AWAY, *_TAKES_AWAY_TOO):
        return Reason("unmapped", f"{nothing} since {by}", row)
    if touch:
        return Reason("nothing", f"{nothing} (last: {by})", row)
    if mm.how == "fork":
        return Reason("not_since_fork", f"{nothing}: not written since {since_fork}", mm.born)
    return Reason("never_written", f"{nothing}: never written")


def end(walk: Mapping[str, Any], found: int, mapcount: int, last: Vma | None) -> dict[str, Any]:
    """Where a walk stopped and why: code and text. `last` is the VMA visited last."""
    at = f"stopped at #{walk['visits'] - 1}"
    mappings = "the only mapping" if mapcount == 1 else f"all {mapcount} mappings"
    if walk["stopped"] and found >= mapcount:
        return {"code": "found_all", "text": f"{at}: found {mappings}"}
    if walk["stopped"] and last is not None and last.flags & LOCKED:
        text = f"{at}: the VMA is locked (found {found} of {mapcount} mappings)"
        return {"code": "locked", "text": text}
    text = f"the model had no more VMAs: found {found} of {mapcount} mappings"
    if found >= mapcount:
        text = f"the model had no more VMAs: found {mappings}"
    return {"code": "no_more", "text": text}
