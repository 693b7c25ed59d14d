# SPDX-License-Identifier: GPL-2.0-only
"""Writes the table of metrics.md that compares the models on bundled traces:

    python docs/models_table.py

Same traces, same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import rmapreplay as rr
from rmapreplay.replay.figures import own_objects

TRACES: Final = ("redis", "pymp", "captured/postgres", "captured/fork_server")
_OBJECTS: Final = ("anon_vma", "anon_vma_chain")


HERE: Final = Path(__file__).resolve().parent
_BEGIN: Final = "<!-- table: written by models_table.py -->\n"
_END: Final = "<!-- end of table -->\n"


def main() -> int:
    page = HERE / "metrics.md"
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"{page}: the markers of the table are gone")
    page.write_text(before + begin + "".join(table()) + end + after)
    return 0


def table() -> Iterator[str]:
    """The lines of the table: a trace's models one below the other."""
    models = [model["name"] for model in rr.models()]
    columns = ("trace", "model", "visits per walk", "useless", "missed", "bytes at peak", *_OBJECTS)
    yield "\n|" + "|".join(f" {column} " for column in columns) + "|\n"
    yield "|---|---" + "|--:" * (len(columns) - 2) + "|\n"
    for trace in TRACES:
        summary = rr.replay(HERE.parent / "traces" / "corpus" / f"{trace}.parquet", models).summary
        name = Path(trace).name
        for model, found in summary["models"].items():
            objects = found["objects"]
            peaks = [f"{objects[kind]['peak']:,}" if kind in objects else "" for kind in _OBJECTS]
            cells = (
                *(name, f"`{model}`", f"{found['walk']['visits']['mean']:.3f}"),
                *(f"{100 * found['useless'] / found['visits']:.1f} %", f"{found['misses']:,}"),
                *(f"{own_objects(found)['bytes_peak']:,}", *peaks),
            )
            yield "| " + " | ".join(cells) + " |\n"
            name = ""
    yield "\n"


if __name__ == "__main__":
    raise SystemExit(main())
