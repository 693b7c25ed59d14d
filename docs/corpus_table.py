# SPDX-License-Identifier: GPL-2.0-only
"""Writes the tables of corpus.md from the cards that traces/corpus/collect.py left:

    python docs/corpus_table.py DIRECTORY

Rows are in order of name; same input, same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
_BEGIN: Final = "<!-- tables: written by corpus_table.py -->\n"
_END: Final = "<!-- end of tables -->\n"


def main(arguments: list[str]) -> int:
    """Rewrite the tables from the directory named by the only argument."""
    cards = [
        json.loads(path.read_text())
        for argument in arguments
        for path in sorted(Path(argument).glob("*.json"))
    ]
    if len(arguments) != 1 or not cards:
        print("usage: corpus_table.py DIRECTORY, of cards NAME.json", file=sys.stderr)
        return 2
    page = HERE / "corpus.md"
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"{page}: the markers of the tables are gone")
    page.write_text(before + begin + "".join(_page(cards)) + end + after)
    return 0


def _page(cards: Sequence[dict[str, Any]]) -> Iterator[str]:
    kernels = sorted({card["kernel"] for card in cards})
    cpus = sorted({card["capture"]["host"]["cpus"] for card in cards})
    yield f"\nLinux {', '.join(kernels)}, {', '.join(map(str, cpus))} CPUs, "
    yield f"{sum(card['events'] for card in cards):,} events in {len(cards)} traces.\n\n"
    yield from _table(
        ("workload", "what it does", "version"),
        ((card["name"], card["about"], card["version"]) for card in cards),
    )
    yield "\n"
    yield from _table(
        (
            *("workload", "events", "faults", "processes", "fork, vfork, thread", "mremap"),
            *("lost", "anomalies", "misses", "bytes", "per event"),
        ),
        (_counts(card) for card in cards),
    )
    yield "\n"
    yield from _table(
        (
            "workload",
            "rounds",
            "alone, s",
            "captured, s",
            "ratio",
            "CPU alone, s",
            "CPU, s",
            "ratio",
        ),
        (_overhead(card) for card in cards),
    )


def _counts(card: dict[str, Any]) -> Iterator[str]:
    yield card["name"]
    yield f"{card['events']:,}"
    yield f"{card['faults']:,}"
    yield f"{card['processes']:,}"
    yield ", ".join(f"{card['forks'][kind]:,}" for kind in ("fork", "vfork", "thread"))
    yield f"{card['mremaps']:,}"
    yield f"{card['lost']:,}"
    yield ", ".join(f"{n:,} {kind}" for kind, n in card["anomalies"].items() if n) or "0"
    yield f"{sum(card['misses'].values()):,}"
    yield f"{card['bytes']:,}"
    yield f"{card['bytes'] / card['events']:.2f}"


def _overhead(card: dict[str, Any]) -> Iterator[str]:
    over = card["overhead"]
    yield card["name"]
    yield str(over["rounds"])
    for measure in ("wall", "cpu"):
        alone, captured = over["plain"][measure], over["captured"][measure]
        yield f"{alone:.2f}"
        yield f"{captured:.2f}"
        yield f"{captured / alone:.2f}"


def _table(head: Sequence[str], rows: Iterator[Any]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
