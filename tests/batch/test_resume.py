# SPDX-License-Identifier: GPL-2.0-only
"""Batches that were interrupted, and results that are of something else or damaged."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr

from .conftest import MODELS, WALKS, children_of, contents, finished, timings, wait_until

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(cli_program: Path) -> Iterator[Start]:
    """Starts a batch in the background."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [cli_program, "batch", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_batch_goes_on(how, start, small, slow, slowly, tmp_path):
    out = tmp_path / "out"
    process = start(small, "-o", out, "-m", slow, "--walks", WALKS, "-j1")
    wait_until(lambda: finished(out) >= 2 and bool(children_of(process.pid)))
    replaying = children_of(process.pid)
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=30)
    kept = finished(out)
    assert 2 <= kept < 6
    assert stdout == ""
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert stderr.count("\n") == 1
        assert "the same command goes on" in stderr
        assert not (out / ".partial").exists()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in replaying))
    with pytest.raises(rr.RmapReplayError, match="no batch came to its end there"):
        rr.read_batch(out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("tasks/*/*.json")}

    found = rr.batch(small, slow, out=out, walks=WALKS)
    assert (found.done, found.reused, found.failed) == (6 - kept, kept, [])
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert {line["trace"] for line in timings(out)} == set("abcdef")
    assert contents(out) == contents(slowly.directory)


@pytest.fixture
def copy(reference: rr.BatchResult, tmp_path: Path) -> Path:
    """A copy of the reference."""
    return Path(shutil.copytree(reference.directory, tmp_path / "copy"))


def test_what_is_there_is_used(copy, corpus, reference):
    again = rr.batch(corpus, MODELS, out=copy, walks=WALKS)
    assert (again.done, again.reused) == (0, 6)
    more = rr.batch(corpus, [*MODELS, "pte_chain"], out=copy, walks=WALKS)
    assert (more.done, more.reused) == (3, 6)
    # A counter that only one of the models has.
    columns = more.operations.collect_schema().names()
    assert set(reference.operations.collect_schema().names()) < set(columns)
    assert more.walks.select(pl.col("model").cast(str).n_unique()).collect().item() == 3


def test_what_is_damaged_is_done_again(copy, corpus, reference):
    tables = sorted(copy.glob("walks/*/*.parquet"))
    tables[0].write_bytes(tables[0].read_bytes()[:-1])
    tables[1].unlink()
    records = sorted(copy.glob("tasks/*/*.json"))
    records[2].write_text(records[2].read_text()[:100])
    again = rr.batch(corpus, MODELS, out=copy, walks=WALKS)
    assert (again.done, again.reused) == (3, 3)
    assert contents(copy) == contents(reference.directory)


def test_results_of_something_else_are_kept(copy, corpus, write_rows, tmp_path):
    def refused(corpus: Path, models: list[str], walks: str, message: str) -> None:
        before = contents(copy)
        with pytest.raises(rr.RmapReplayError, match=message) as caught:
            rr.batch(corpus, models, out=copy, walks=walks)
        assert str(caught.value).endswith("(--force replaces all)")
        assert contents(copy) == before

    refused(corpus, MODELS, "end", "deep/merge under anon_vma with walks scan:2")
    refused(corpus, ["cow"], WALKS, "deep/merge under anon_vma, which is not asked for")
    refused(corpus / "deep", MODELS, WALKS, "deep/merge under anon_vma, which is not asked for")
    other = Path(shutil.copytree(corpus, tmp_path / "other"))
    write_rows(other / "forky.parquet", [{"op": "exec", "pid": 100}])
    refused(other, MODELS, WALKS, "forky under anon_vma that are of another trace")

    made = rr.batch(other, ["cow"], out=copy, walks="end", force=True)
    assert made.failed == []
    assert (made.done, made.reused) == (3, 0)
    assert len(list(copy.glob("walks/*/*.parquet"))) == 3


def test_a_model_of_ones_own_that_changed(small, slow, tmp_path):
    out = tmp_path / "out"
    source = Path(shutil.copy(slow.partition(":")[0], tmp_path / "mine.py"))
    mine = f"{source}:Slow"
    found = rr.batch(small / "a.parquet", mine, out=out)
    content = hashlib.sha256(source.read_bytes()).hexdigest()
    assert found.manifest["models"] == [{"label": mine, "sha256": content}]
    assert rr.batch(small / "a.parquet", mine, out=out).reused == 1
    source.write_text(source.read_text().replace("0.4", "0.0"))
    with pytest.raises(rr.RmapReplayError, match="a under .*:Slow whose file has changed since"):
        rr.batch(small / "a.parquet", mine, out=out)


def test_results_of_another_version(copy, corpus, monkeypatch):
    monkeypatch.setattr(rr, "__version__", "0.0.9")
    from rmapreplay.batch.program import program

    program.cache_clear()
    with pytest.raises(rr.RmapReplayError, match="that rmapreplay 0.1.0 .build .* made"):
        rr.batch(corpus, MODELS, out=copy, walks=WALKS)
    program.cache_clear()


def test_one_batch_at_a_time(copy, corpus):
    lock = os.open(copy, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(rr.RmapReplayError, match="another batch is writing there"):
        rr.batch(corpus, MODELS, out=copy, walks=WALKS)
    os.close(lock)
    assert rr.batch(corpus, MODELS, out=copy, walks=WALKS).reused == 6


def test_a_directory_of_something_else_is_left_alone(corpus, tmp_path):
    (tmp_path / "thesis.tex").touch()
    for force in (False, True):
        with pytest.raises(rr.RmapReplayError, match="there is 'thesis.tex' in it"):
            rr.batch(corpus, "cow", out=tmp_path, force=force)
    with pytest.raises(rr.RmapReplayError, match="is not a directory"):
        rr.batch(corpus, "cow", out=tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
