# SPDX-License-Identifier: GPL-2.0-only
"""Rebuilds the bundled traces, and the table in README.md, from raw captures:

    python traces/corpus/build.py RAW

where RAW holds, at any depth, NAME.core.txt.zst and NAME.kmem.txt.zst of the captures, and
NAME.trace.txt.zst and NAME.aux.tar.zst of the recordings. Same input, same bytes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.importers import ImportOptions, import_capture
from rmapreplay.traces.info import trace_info
from rmapreplay.traces.reader import read_trace
from rmapreplay.traces.truth import truth_path

HERE: Final = Path(__file__).resolve().parent
LIMIT: Final = 10 << 20
"""Bytes that the bundled files may take in all."""
_BEGIN: Final = "<!-- table: written by build.py -->\n"
_END: Final = "<!-- end of table -->\n"


@dataclass(frozen=True)
class Entry:
    """One bundled trace.

    Attributes:
        name: of its files, raw and bundled.
        workload: what ran.
        source: suffix of the raw text.
        truth: suffix of its answer key.
        kernel, thp: of the machine it was captured on.
        method: how it was captured, for the README.
    """

    name: str
    workload: str
    source: str
    truth: str
    kernel: str
    thp: str
    method: str


def _capture(name: str, workload: str) -> Entry:
    return Entry(
        name, workload, ".core.txt.zst", ".kmem.txt.zst", "6.18.44", "madvise", "perf, cgroup"
    )


def _recording(name: str, workload: str) -> Entry:
    return Entry(
        name, workload, ".trace.txt.zst", ".aux.tar.zst", "7.3.4", "never", "tracefs, fprobes"
    )


ENTRIES: Final = (
    _capture("redis", "redis-server under load, with background saves"),
    _capture("nginx", "nginx workers serving ab"),
    _capture("pymp", "Python multiprocessing pools with numpy arrays"),
    _capture("sng_rmap", "stress-ng --rmap"),
    _recording("scen", "eleven small scenarios of fork, unmap, mremap and exit"),
    _recording("forky", "a tree of forks with shared and private pages"),
    _recording("bash", "pipelines of bash subshells"),
    _recording("rmap", "the kernel's own selftest of rmap"),
    _recording("merge", "the kernel's own selftest of merging VMAs"),
    _recording("python", "Python multiprocessing pools, and processes that fork further"),
)


def main(arguments: list[str]) -> int:
    """Rebuild everything from the directory named by the only argument."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: build.py RAW, a directory of raw captures", file=sys.stderr)
        return 2
    raw = Path(arguments[0])
    try:
        rows = [_row(entry, _build(entry, raw)) for entry in ENTRIES]
    except RmapReplayError as error:
        print(f"build.py: error: {error}", file=sys.stderr)
        return 2
    total = sum(file.stat().st_size for file in HERE.glob("*.parquet"))
    if total > LIMIT:
        print(f"build.py: error: {total} bytes are more than {LIMIT}", file=sys.stderr)
        return 2
    _write_table(rows, total)
    return 0


def _find(raw: Path, name: str) -> Path:
    found = sorted(raw.rglob(name))
    if not found:
        raise RmapReplayError(f"{raw}: no {name} in it")
    return found[0]


def _build(entry: Entry, raw: Path) -> dict[str, Any]:
    out = HERE / f"{entry.name}.parquet"
    print(f"building {out.name}", file=sys.stderr)
    options = ImportOptions(
        kernel=entry.kernel,
        thp=entry.thp,
        description=entry.workload,
        truth=(_find(raw, entry.name + entry.truth),),
    )
    source = _find(raw, entry.name + entry.source)
    import_capture(source, out, options=options, force=True)
    return trace_info(read_trace(out))


def _row(entry: Entry, found: dict[str, Any]) -> str:
    truth = truth_path(HERE / f"{entry.name}.parquet").stat().st_size
    cells = [
        entry.name,
        entry.workload,
        entry.kernel,
        entry.method,
        str(found["metadata"]["lost"]),
        str(found["rows"]),
        str(found["processes"]),
        str(found["ops"].get("walk", 0)),
        str(found["bytes"]),
        str(truth),
    ]
    return f"| {' | '.join(cells)} |\n"


def _write_table(rows: list[str], total: int) -> None:
    readme = HERE / "README.md"
    text = readme.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    head = (
        "| name | workload | kernel | captured with | events lost | rows | processes "
        "| recorded walks | bytes | bytes of the answer key |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    size = f"\n{total / 2**20:.1f} MB in all.\n"
    readme.write_text(before + _BEGIN + head + "".join(rows) + size + _END + after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
