# SPDX-License-Identifier: GPL-2.0-only
"""A small corpus, a server of it, and batches of it."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rmapreplay as rr

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
MODELS = ["anon_vma", "cow"]
WALKS = "scan:2"

SLOW = """\
import time

import rmapreplay as rr


class Slow(rr.RmapModel):
    def __init__(self, machine, kernel):
        super().__init__(machine, kernel)
        time.sleep(0.4)
        self.mms = []

    def mm_init(self, mm):
        self.mms.append(mm)

    def mm_fork_begin(self, child, parent):
        self.mms.append(child)

    def mm_exit(self, mm):
        self.mms.remove(mm)

    def home(self, vma):
        return 1

    def rmap_walk(self, walk):
        for mm in self.mms:
            for vma in self.machine.vmas(mm):
                if walk.overlaps(vma) and not walk.visit(vma):
                    return
"""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """forky, deep/merge and deep/scen, with answer keys."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "deep").mkdir()
    for name in ("forky", "deep/merge", "deep/scen"):
        for suffix in (".parquet", ".truth.parquet"):
            shutil.copy(CORPUS / f"{Path(name).name}{suffix}", folder / f"{name}{suffix}")
    return folder


@pytest.fixture(scope="session")
def reference(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> rr.BatchResult:
    """A batch of the corpus, one replay at a time. Not to be changed."""
    out = tmp_path_factory.mktemp("batch") / "reference"
    return rr.batch(corpus, MODELS, out=out, walks=WALKS, jobs=1)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def server(corpus: Path) -> Iterator[str]:
    """The URL at which the corpus is served, by a server that knows of no ranges."""
    handler = functools.partial(_Quiet, directory=str(corpus))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that takes its time, and visits whatever it might."""
    file = tmp_path_factory.mktemp("models") / "slow.py"
    file.write_text(SLOW)
    return f"{file}:Slow"


@pytest.fixture(scope="session")
def small(forking_trace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of six traces of 167 rows: a to f."""
    folder = tmp_path_factory.mktemp("small")
    for name in "abcdef":
        shutil.copy(forking_trace, folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def slowly(small: Path, slow: str, tmp_path_factory: pytest.TempPathFactory) -> rr.BatchResult:
    """A batch of the small corpus under the slow model. Not to be changed."""
    out = tmp_path_factory.mktemp("batch") / "slowly"
    return rr.batch(small, slow, out=out, walks=WALKS, jobs=6)


def contents(out: Path) -> dict[str, bytes]:
    """All that is to be the same wherever it is made: every file but timings.jsonl."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "timings.jsonl"
    }


def timings(out: Path) -> list[dict[str, Any]]:
    """What timings.jsonl says of tasks, by all runs."""
    lines = map(json.loads, (out / "timings.jsonl").read_text().splitlines())
    return [line for line in lines if "trace" in line]


def finished(out: Path) -> int:
    return len(list(out.glob("tasks/*/*.json")))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]
