# SPDX-License-Identifier: GPL-2.0-only
"""Bundles captures that collect.py made, and writes the table of them in README.md:

    python traces/corpus/bundle.py DIRECTORY NAME...

What was bundled before goes. Same input, same bytes.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
CAPTURED: Final = HERE / "captured"
LIMIT: Final = 12 << 20
"""Bytes that all bundled files may take, those of build.py too."""
_ENDINGS: Final = (".parquet", ".truth.parquet", ".json")
_BEGIN: Final = "<!-- table: written by bundle.py -->\n"
_END: Final = "<!-- end of captures -->\n"


def main(arguments: list[str]) -> int:
    """See above."""
    if len(arguments) < 2:
        print("usage: bundle.py DIRECTORY NAME...", file=sys.stderr)
        return 2
    source, names = Path(arguments[0]), sorted(arguments[1:])
    wanted = [source / f"{name}{ending}" for name in names for ending in _ENDINGS]
    if missing := [str(file) for file in wanted if not file.exists()]:
        print(f"bundle.py: error: {missing[0]}: no such file", file=sys.stderr)
        return 2
    others = sum(file.stat().st_size for file in HERE.glob("*.parquet"))
    total = others + sum(file.stat().st_size for file in wanted)
    if total > LIMIT:
        print(f"bundle.py: error: {total} bytes are more than {LIMIT}", file=sys.stderr)
        return 2
    shutil.rmtree(CAPTURED, ignore_errors=True)
    CAPTURED.mkdir()
    for file in wanted:
        shutil.copy(file, CAPTURED / file.name)
    cards = [json.loads((CAPTURED / f"{name}.json").read_text()) for name in names]
    _write("".join(_table(cards)))
    return 0


def _table(cards: list[dict[str, Any]]) -> Iterator[str]:
    yield "| name | workload | version | kernel | rows | processes | anomalies | bytes |\n"
    yield "|---|---|---|---|---|---|---|---|\n"
    for card in cards:
        cells = (
            *(card["name"], card["about"], card["version"], card["kernel"]),
            *(str(card["events"]), str(card["processes"])),
            ", ".join(f"{n} {kind}" for kind, n in card["anomalies"].items() if n) or "0",
            str(card["bytes"]),
        )
        yield f"| {' | '.join(cells)} |\n"


def _write(table: str) -> None:
    page = HERE / "README.md"
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"{page}: the markers of the table are gone")
    page.write_text(before + begin + table + end + after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
