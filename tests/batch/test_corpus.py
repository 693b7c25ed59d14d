# SPDX-License-Identifier: GPL-2.0-only
"""Which traces a corpus has, and reading them by URL."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

import rmapreplay as rr
from rmapreplay.batch.corpus import digest, find_traces

SCENARIO = """\
A map x 4
A write x
A fork B
B unmap x
walk A x
"""
NOWHERE = Path("/nonexistent")


@pytest.fixture
def memory(corpus: Path) -> Iterator[str]:
    """The URL of the corpus in the memory of this process."""
    system = fsspec.filesystem("memory")
    for path in sorted(corpus.rglob("*.parquet")):
        system.pipe_file(f"/corpus/{path.relative_to(corpus)}", path.read_bytes())
    yield "memory://corpus"
    system.rm("/corpus", recursive=True)


def names(*given: str | Path, apart_from: Path = NOWHERE) -> list[str]:
    return [source.name for source in find_traces(given, apart_from=apart_from)]


def test_directories(corpus, tmp_path):
    assert names(corpus) == ["deep/merge", "deep/scen", "forky"]
    assert names(corpus, apart_from=corpus / "deep") == ["forky"]
    shutil.copytree(corpus, tmp_path / "again")
    (tmp_path / "again" / "deep").rename(tmp_path / "again" / ".deep")
    shutil.copy(corpus / "forky.parquet", tmp_path / "again" / ".hidden.parquet")
    (tmp_path / "again" / "README").touch()
    assert names(tmp_path) == ["again/forky"]


def test_files_and_globs(corpus):
    forky = corpus / "forky.parquet"
    assert names(forky) == ["forky"]
    assert names(forky, corpus, f"file://{forky}") == ["deep/merge", "deep/scen", "forky"]
    assert names(f"{corpus}/*.parquet") == ["forky"]
    assert names(f"{corpus}/**/*.parquet") == ["deep/merge", "deep/scen", "forky"]
    assert names(f"{corpus}/d*/[ms]*.parquet") == ["deep/merge", "deep/scen"]
    # As a shell expands it.
    assert names(*(corpus / "deep").glob("*.parquet")) == ["merge", "scen"]


def test_lists(corpus, server, tmp_path):
    shutil.copy(corpus / "forky.parquet", tmp_path / "mine.parquet")
    (tmp_path / "some.txt").write_text(
        f"# traces\n\nmine.parquet\n  {server}/deep/scen.parquet\nfile://{corpus}/forky.parquet\n"
    )
    found = find_traces([tmp_path / "some.txt"], apart_from=NOWHERE)
    assert [(source.name, source.place) for source in found] == [
        ("forky", f"file://{corpus}/forky.parquet"),
        ("mine", str(tmp_path / "mine.parquet")),
        ("scen", f"{server}/deep/scen.parquet"),
    ]


def test_memory(memory):
    assert names(memory) == ["deep/merge", "deep/scen", "forky"]
    assert names(f"{memory}/deep/*.parquet") == ["merge", "scen"]
    assert names(f"{memory}/deep/scen.parquet") == ["scen"]
    fsspec.filesystem("memory").pipe_file("/corpus/list.txt", b"forky.parquet\ndeep/scen.parquet\n")
    found = find_traces([f"{memory}/list.txt"], apart_from=NOWHERE)
    assert [source.name for source in found] == ["deep/scen", "forky"]
    assert rr.read_trace(found[0].place).rows == 2698


def test_a_server(server, corpus):
    # A page that lists a directory will do for a file system that can.
    assert names(server) == ["deep/merge", "deep/scen", "forky"]
    assert names(f"{server}/deep/scen.parquet?token=1") == ["scen"]
    (corpus / "list.txt").write_text("forky.parquet\ndeep/merge.parquet\n")
    found = find_traces([f"{server}/list.txt"], apart_from=NOWHERE)
    (corpus / "list.txt").unlink()
    assert [(source.name, source.place) for source in found] == [
        ("deep/merge", f"{server}/deep/merge.parquet"),
        ("forky", f"{server}/forky.parquet"),
    ]


def test_digests_are_of_the_bytes(corpus, memory, server):
    content = (corpus / "forky.parquet").read_bytes()
    wanted = hashlib.sha256(content).hexdigest(), len(content)
    for top in (str(corpus), f"file://{corpus}", memory, server):
        assert digest(f"{top}/forky.parquet") == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{corpus}/deep/merge.truth.parquet", "no traces there"),
        ("{corpus}/x*.parquet", "no traces there"),
        ("{corpus}/missing", "missing: no such file"),
        ("{corpus}/missing.txt", "missing.txt: No such file"),
        ("memory://nothing/here", "memory://nothing/here: no traces there"),
        ("nonesuch://host/x.txt", "nonesuch://host/x.txt: cannot be read: Protocol not known"),
        ("{server}/missing.txt", "missing.txt: no such file"),
    ],
)
def test_what_has_no_traces(given, message, corpus, server):
    with pytest.raises(rr.RmapReplayError, match=message) as caught:
        names(given.format(corpus=corpus, server=server))
    assert "\n" not in str(caught.value)


def test_two_of_a_name(corpus, tmp_path):
    shutil.copy(corpus / "forky.parquet", tmp_path)
    with pytest.raises(rr.RmapReplayError, match="two traces would be called 'forky'"):
        names(corpus, tmp_path)


# ---- reading by URL ----


def test_a_trace_by_url_is_the_same(corpus, memory, server):
    here = rr.read_trace(corpus / "forky.parquet")
    for url in (f"{memory}/forky.parquet", f"{server}/forky.parquet"):
        there = rr.read_trace(url)
        assert there.frame().equals(here.frame())
        assert there.metadata == here.metadata
        assert (there.path, there.url) == (None, url)
        summary = rr.replay(url, "cow", walks="end").summary
        assert summary["trace"]["path"] == url
        assert summary["events"] == here.rows
    by_path = rr.read_trace(f"file://{corpus}/forky.parquet")
    assert (by_path.path, by_path.url) == (corpus / "forky.parquet", None)


def test_the_command_line_reads_urls(cli, corpus, server):
    shown = cli("info", f"{server}/forky.parquet")
    assert shown.stderr == ""
    assert f"{server}/forky.parquet" in shown.stdout
    missing = cli("run", f"{server}/missing.parquet", "--model=cow")
    assert missing.returncode == 2
    assert missing.stderr == f"rmapreplay: error: {server}/missing.parquet: no such file\n"


def test_a_scenario_by_url_is_the_same(small, tmp_path):
    (tmp_path / "reuse.scn").write_text(SCENARIO)
    here = rr.read_trace(tmp_path / "reuse.scn")
    system = fsspec.filesystem("memory")
    system.pipe_file("/scenarios/reuse.scn", SCENARIO.encode())
    system.pipe_file("/scenarios/wrong.scn", b"A map x 4\nA jump x\n")
    there = rr.read_trace("memory://scenarios/reuse.scn")
    assert there.frame().equals(here.frame())
    assert (there.path, there.url) == (None, "memory://scenarios/reuse.scn")
    found = rr.batch("memory://scenarios", "cow", out=tmp_path / "out")
    assert [task["trace"] for task in found.manifest["tasks"]] == ["reuse"]
    (failure,) = found.failed
    assert (failure.trace, failure.kind) == ("wrong", "ScenarioError")
    assert failure.message.startswith("wrong:2:3: ")
    system.rm("/scenarios", recursive=True)


def test_what_is_no_trace_at_a_url(corpus):
    system = fsspec.filesystem("memory")
    content = (corpus / "forky.parquet").read_bytes()
    system.pipe_file("/bad/cut.parquet", content[: len(content) // 2])
    for url, message in (
        ("memory://bad/cut.parquet", "memory://bad/cut.parquet: not a Parquet file, or truncated"),
        ("memory://bad/none.parquet", "memory://bad/none.parquet: no such file"),
        ("http://127.0.0.1:9/x.parquet", "http://127.0.0.1:9/x.parquet: cannot be read"),
        ("nonesuch://x.parquet", "nonesuch://x.parquet: cannot be read: Protocol not known"),
    ):
        with pytest.raises(rr.RmapReplayError, match=message) as caught:
            rr.read_trace(url)
        assert "\n" not in str(caught.value)
    system.rm("/bad", recursive=True)
