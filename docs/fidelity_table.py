# SPDX-License-Identifier: GPL-2.0-only
"""Checks traces against their answer keys and writes the table of agreement in fidelity.md:

    python docs/fidelity_table.py TRACE...

Rows are in order of kernel and workload; same input, same bytes. Exit code 1: some trace disagrees
with the kernel, as `rmapreplay check`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import rmapreplay as rr
from rmapreplay.traces.reader import read_trace

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
_BEGIN: Final = "<!-- table: written by fidelity_table.py -->\n"
_END: Final = "<!-- end of table -->\n"
_HEADER: Final = (
    *("workload", "kernel", "rows", "walks", "exact", "tie", "prefix", "wrong"),
    *("`vm_area_struct`", "`anon_vma`", "`anon_vma_chain`", "insertions, removals"),
    *("moments", "VMA lists", "reported VMAs"),
)


def main(arguments: list[str]) -> int:
    """Check the traces named and rewrite the table."""
    if not arguments:
        print("usage: fidelity_table.py TRACE...", file=sys.stderr)
        return 2
    rows, exact = [], True
    try:
        for argument in arguments:
            print(f"checking {argument}", file=sys.stderr)
            trace = read_trace(argument)
            summary = rr.check(trace).summary
            exact &= summary["exact"]
            rows.append(_row(Path(argument), trace.metadata.get("kernel"), summary))
    except rr.RmapReplayError as error:
        print(f"fidelity_table.py: error: {error}", file=sys.stderr)
        return 2
    _write(sorted(rows, key=lambda row: (row[1], row[0])))
    return 0 if exact else 1


def _row(path: Path, kernel: str | None, summary: dict[str, Any]) -> list[str]:
    bundled = path.resolve().is_relative_to(ROOT)
    walks, objects, vmas = summary["walks"], summary["objects"], summary["vmas"]
    chains = objects.get("anon_vma_chain", {})
    trees = [_pair(chains[name]) for name in ("inserts", "removes") if name in chains]
    alike = [_alike(moment) for moment in summary["moments"]]
    walked = (walks[name] for name in ("recorded", "exact", "tie", "prefix", "wrong"))
    return [
        path.stem + ("" if bundled else " (not bundled)"),
        kernel or "",
        f"{summary['events']:,}",
        *(f"{n:,}" if walks["recorded"] else "" for n in walked),
        *(_objects(objects[kind]) for kind in ("vm_area_struct", "anon_vma", "anon_vma_chain")),
        ", ".join(trees),
        _equal(sum(alike), len(alike)),
        _equal(vmas["equal"], vmas["snapshots"]),
        _equal(vmas["reports_equal"], vmas["reports"]),
    ]


def _objects(counts: dict[str, Any]) -> str:
    """Allocations, and the most that were alive at a time."""
    return f"{_pair(counts)} ({_pair(counts['peak'])})"


def _pair(pair: dict[str, Any]) -> str:
    """What both agree on; else the kernel's and the model's."""
    if pair["expected"] == pair["got"]:
        return f"{pair['expected']:,}"
    if abs(pair["expected"] - pair["got"]) <= pair.get("in_flight", 0):
        return f"{pair['expected']:,} / {pair['got']:,}"
    return f"**{pair['expected']:,} / {pair['got']:,}**"


def _alike(moment: dict[str, Any]) -> bool:
    live = all(pair["expected"] == pair["got"] for pair in moment["live"].values())
    return live and bool(moment.get("links_equal", True))


def _equal(equal: int, compared: int) -> str:
    if not compared:
        return ""
    return f"{compared:,}" if equal == compared else f"**{equal:,} of {compared:,}**"


def _write(rows: list[list[str]]) -> None:
    page = HERE / "fidelity.md"
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"{page}: the markers of the table are gone")
    lines = [list(_HEADER), ["---"] * len(_HEADER), *rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    page.write_text(before + begin + table + end + after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
