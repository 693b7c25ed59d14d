# SPDX-License-Identifier: GPL-2.0-only
"""The scenario language: what its words become, what is wrong with a text, and expectations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rmapreplay as rr
from rmapreplay.analysis.compare.shrink import shrink_divergence
from rmapreplay.analysis.processes import comms
from rmapreplay.traces.scenarios import ScenarioError, parse, to_text
from rmapreplay.traces.schema import FILE_SCHEMA
from rmapreplay.traces.writer import write_trace

X = 0x700000000000
GB = 1 << 30
PAGE = 4096


def rows(text: str) -> list[dict[str, Any]]:
    """What is given of each row, but for its time and task."""
    return [
        {
            name: value
            for name, value in row.items()
            if value is not None and name not in ("time", "tid")
        }
        for row in parse(text).trace().frame().iter_rows(named=True)
    ]


def row_of(line: str) -> dict[str, Any]:
    """The last row of a line, after `A map x 4`."""
    row = rows(f"A map x 4\n{line}")[-1]
    row.pop("pid")
    return row


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("A map y 2", {"op": "mmap", "addr": X + GB, "len": 2 * PAGE, "prot": 3, "flags": 0x22}),
        ("A map y 2 rx shared locked populate", {"op": "mmap", "addr": X + GB, "len": 2 * PAGE,
         "prot": 5, "flags": 0xA021}),
        ("A map x+2 2 file lib at 3 growsdown fixed", {"op": "mmap", "addr": X + 2 * PAGE,
         "len": 2 * PAGE, "prot": 3, "flags": 0x112, "fd": 3, "file": 1, "offset": 3 * PAGE}),
        ("A map x", {"op": "mmap", "addr": X, "len": 4 * PAGE, "prot": 3, "flags": 0x22}),
        ("A unmap x+1", {"op": "munmap", "addr": X + PAGE, "len": 3 * PAGE}),
        ("A unmap x 2", {"op": "munmap", "addr": X, "len": 2 * PAGE}),
        ("A move x y", {"op": "mremap", "addr": X, "len": 4 * PAGE, "new_addr": X + GB,
         "new_len": 4 * PAGE, "flags": 3}),
        ("A move x+1 y 2 to 5", {"op": "mremap", "addr": X + PAGE, "len": 2 * PAGE,
         "new_addr": X + GB, "new_len": 5 * PAGE, "flags": 3}),
        ("A move x y dontunmap", {"op": "mremap", "addr": X, "len": 4 * PAGE, "new_addr": X + GB,
         "new_len": 4 * PAGE, "flags": 7}),
        ("A resize x to 6", {"op": "mremap", "addr": X, "len": 4 * PAGE, "new_addr": X,
         "new_len": 6 * PAGE, "flags": 0}),
        ("A protect x r", {"op": "mprotect", "addr": X, "len": 4 * PAGE, "prot": 1}),
        ("A protect x 2 none", {"op": "mprotect", "addr": X, "len": 2 * PAGE, "prot": 0}),
        ("A advise x wipeonfork", {"op": "madvise", "addr": X, "len": 4 * PAGE, "advice": 18}),
        ("A advise x 2 77", {"op": "madvise", "addr": X, "len": 2 * PAGE, "advice": 77}),
        ("A lock x onfault", {"op": "mlock", "addr": X, "len": 4 * PAGE, "flags": 1}),
        ("A unlock x", {"op": "munlock", "addr": X, "len": 4 * PAGE}),
        ("A lock_all current onfault", {"op": "mlockall", "flags": 5}),
        ("A unlock_all", {"op": "munlockall"}),
        ("A bind x 1 interleave", {"op": "mbind", "addr": X, "len": PAGE, "advice": 3}),
        ("A seal x", {"op": "mseal", "addr": X, "len": 4 * PAGE}),
        ("A brk heap+2", {"op": "brk", "addr": 0x555500002000}),
        ("A write x", {"op": "fault", "addr": X, "write": True, "source": "user"}),
        ("A read x+1 source=gup", {"op": "fault", "addr": X + PAGE, "write": False,
         "source": "gup"}),
        ("A write x order 2", {"op": "fault", "addr": X, "write": True, "source": "user",
         "order": 2}),
        ("A populate x read", {"op": "populate", "addr": X, "len": 4 * PAGE, "write": False}),
        ("A swap_out x+1 2", {"op": "swap_out", "addr": X + PAGE, "len": 2 * PAGE}),
        ("A swap_in x read_ahead", {"op": "swap_in", "addr": X, "len": PAGE, "flags": 1}),
        ("A discard x", {"op": "discard", "addr": X, "len": PAGE}),
        ("walk A x", {"op": "walk", "addr": X, "kind": "all"}),
        ("walk A x+3 migrate order 4", {"op": "walk", "addr": X + 3 * PAGE, "kind": "migrate",
         "order": 4}),
        ("A fork B", {"op": "fork", "flags": 0, "child": 101, "child_tid": 101}),
        ("A vfork p7", {"op": "fork", "flags": 0x4100, "child": 7, "child_tid": 7}),
        ("A exec path=\"/bin/a b\"", {"op": "exec", "path": "/bin/a b"}),
        ("A exit", {"op": "exit"}),
        ("A raw munmap addr=0x1001 len=2*3", {"op": "munmap", "addr": 0x1001, "len": 6}),
        ("A protect x 9 r error=12", {"op": "mprotect", "addr": X, "len": 9 * PAGE, "prot": 1,
         "error": 12}),
    ],
)  # fmt: skip
def test_a_line_is_a_row(line: str, row: dict[str, Any]) -> None:
    assert row_of(line) == row


def test_pages_are_rows_of_their_own() -> None:
    assert [row["addr"] for row in rows("A map x 4\nA write x+1 3")[2:]] == [
        X + page * PAGE for page in (1, 2, 3)
    ]
    assert len(rows("A map x 70000\nA write x whole")) == 2 + 70000  # more than a batch


def test_the_first_process_is_there_and_others_are_forked() -> None:
    made = rows("A map x 1\nA fork B\nB fork C\nB exit\nA fork B\nD exec")
    assert [(row["op"], row["pid"]) for row in made] == [
        ("exec", 100), ("mmap", 100), ("fork", 100), ("fork", 101), ("exit", 101), ("fork", 100),
        ("exec", 104),
    ]  # fmt: skip
    assert [row["child"] for row in made if row["op"] == "fork"] == [101, 102, 103]


def test_heaps_begin_where_the_first_break_is() -> None:
    breaks = "A brk heap+1\nA fork B\nB brk heap+2\nB exec\nB brk heap+1"
    assert [row["addr"] - 0x555500000000 for row in rows(breaks) if row["op"] == "brk"] == [
        0, PAGE, 2 * PAGE, 0, PAGE,
    ]  # fmt: skip


def test_loops() -> None:
    text = """
    A map x 10
    for i in 1..3   # a comment
      A fork C{i}
      for j in i..2
        C{i} write x+2*i+j (i+j)//2
      end
    end
    for i in 1..0
      A write x
    end
    """
    made = rows(text)[2:]
    assert [row["pid"] for row in made] == [100, 101, 101, 100, 102, 102, 100]
    pages = [(row["addr"] - X) // PAGE for row in made if row["op"] == "fault"]
    assert pages == [3, 4, 6, 7]
    assert [step.words for step in parse(text).steps][4] == "C1 write x+2*1+2 (1+2)//2"


def test_headers_are_metadata() -> None:
    text = "kernel 6.18.44\nthp always no_zero_page\nstack_limit 1<<20\n"
    with pytest.raises(ScenarioError, match="not a number"):
        parse(text)
    scenario = parse(
        "kernel 6.18.44\nthp always no_zero_page\nstack_limit 1024*1024\n"
        'metadata teardown ["exit_mmap"]\nat 5000\nA map x 1\nat 9000\nA write x order 1\n'
    )
    metadata = scenario.trace().metadata
    assert metadata["kernel"] == "6.18.44"
    assert metadata["thp"] == {"enabled": "always", "use_zero_page": False}
    assert metadata["stack_limit"] == 1 << 20
    assert metadata["teardown"] == ["exit_mmap"]
    assert metadata["fault_orders"] is True
    assert scenario.trace().frame()["time"].to_list() == [5000, 6000, 9000]


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("A jump x", "1:3", "'jump' is not a call: one of fork, vfork, map,"),
        ("A", "1:1", "what does 'A' do?"),
        ("A map", "1:3", "a place must follow 'map'"),
        ("A map x", "1:7", "how many pages? nothing was mapped at 'x' before"),
        ("A map x 0", "1:9", "0 pages: at least one"),
        ("A map x four", "1:7", "how many pages? nothing was mapped at 'x' before"),
        ("A map x 4 file", "1:11", "a file's name must follow 'file'"),
        ("A map x 4\nA unmap x 2 3", "2:13", "'3' was not expected here"),
        ("A map x 4\n  A unmap y", "2:11", "no place 'y': nothing was mapped there"),
        ("A map x 4\nA unmap x+4", "2:9", "only 4 were mapped at the place"),
        ("A map x 4\nA write x-y", "2:9", "'y' is not a number, nor the variable of a loop"),
        ("A map x 4\nA write x+", "2:9", "'+' is not a number"),
        ("A map 0x1234 1", "1:7", "is not the address of a page"),
        ("A map 0x7ffffffff000 2", "1:22", "go past the end of the address space"),
        ("A map 0x7ffffffff000 1\nA write 0x7ffffffff000 1\nA write 0x7fffffffe000+1 2",
         "3:26", "go past the end"),
        ("A map x 4\nB write x", "2:1", "no process 'B': nobody forked it, and it did not exec"),
        ("A map x 4\nA fork A", "2:8", "there is a process 'A' already"),
        ("A map x 4\nA exit\nA write x", "3:1", "process 'A' has exited"),
        ("A map x 4\nA fork p100", "2:8", "pid 100 is that of 'A'"),
        ("walk A x", "1:6", "no process 'A'"),
        ("A map x 4\nA protect x q", "2:13", "'q' is not a protection: one of none, r, w,"),
        ("A map x 4\nA advise x well", "2:12", "'well' is not advice"),
        ("A map x 4\nwalk A x often", "2:10", "'often' was not expected here"),
        ("A map x 4 colour=3", "1:11", "'colour' is not a column"),
        ("A map x 4 flags=-1", "1:11", "-1 does not fit in the column flags"),
        ("A map x 4 flags=1 flags=2", "1:11", "'flags' is given twice"),
        ("A map x 4\nA read x source=me", "2:10", "source is one of user, kernel, gup, not 'me'"),
        ("A exec\nA raw munmap addr=0", "2:3", "munmap needs the column len"),
        ("A raw jump", "1:7", "'jump' is not an operation"),
        ("for i in 1..3\nA map x 1", "1:1", "'for' without an 'end'"),
        ("A map x 1\nend", "2:1", "'end' without a 'for'"),
        ("for i in 1-3\nend", "1:10", "'1-3' is not a range such as 1..10"),
        ("for map in 1..3\nend", "1:5", "'map' cannot be the variable of a loop"),
        ("for i in 1..2\nfor i in 1..2\nend\nend", "2:5", "the variable of a loop around this one"),
        ("for i in 0..1\n  A{1//i} map x 1\nend", "2:3", "'1//i' divides by zero"),
        ("A map x 1\nkernel 7.3", "2:1", "'kernel' must come before the first call"),
        ("kernel seven", "1:8", "'seven' is not the release of a kernel"),
        ("thp sometimes", "1:5", "'sometimes' is not a mode of transparent huge pages"),
        ("metadata thp {", "1:14", "is not JSON"),
        ("place x 0x1000\nplace x 0x2000", "2:7", "there is a place 'x' already"),
        ('A exec path="a', "1:13", "a quotation that does not end"),
        ("expect cow visits 1", "1:12", "nothing has happened yet"),
        ("A map x 1\nexpect cow visits", "2:12", "a number must follow 'visits'"),
        ("A map x 1\nexpect cow visited A+", "2:20", "must follow one"),
        ("A map x 1\nwalk A x\nexpect cow visited A", "3:20", "'A' is not a visit"),
        ("A map x 1\nwalk A x\nexpect cow visited B+", "3:20", "no process 'B'"),
        ("A map x 1\nat 5", "2:4", "5 is before the line above"),
    ],
)  # fmt: skip
def test_errors_name_line_and_column(text: str, place: str, reason: str) -> None:
    with pytest.raises(ScenarioError) as error:
        parse(text, "some.scn")
    assert str(error.value).startswith(f"some.scn:{place}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, rr.RmapReplayError)


SHARED = """A map x 4
A write x 4
A fork B
B unmap x
B map x
B write x 4
A fork C
walk A x 2
"""
WALKED = 14  # row of the first of the two walks


def failed(expectations: str, models: list[str], **options: Any) -> list[str]:
    """What rr.replay() and Scenario.check() say does not hold; they say the same."""
    scenario = parse(SHARED + expectations, "a.scn")
    result = rr.replay(scenario.trace(), models, visits=True, **options)
    assert scenario.check(result) == result.summary["expectations"]["failed"]
    return scenario.check(result)


@pytest.mark.parametrize("walks", ["none", "every:1,kind=all", "scan:16", "end"])
def test_expectations_that_hold(walks: str) -> None:
    """Whatever other walks there are, also right after the scenario's own."""
    text = """
    expect cow visits 3
    expect cow visits >= 3
    expect cow visits != 2
    expect anon_vma,cow hits = 2
    expect cow useless > 0
    expect cow misses < 1
    expect cow visited A+ C+ B-
    expect anon_vma visited A+ C+
    expect anon_vma objects anon_vma 6
    expect * total misses 0
    A fork D
    expect anon_vma anon_vma_allocated 2
    expect cow cow_context_allocated 1
    expect anon_vma links 4
    expect * misses 0
    expect pte_chain useless 0
    """
    assert failed(text, ["anon_vma", "cow", "pte_chain"], walks=walks) == []


def test_expectations_that_do_not_hold() -> None:
    text = """expect cow visits 2
expect cow useless < 1
expect anon_vma visited A+ B+
expect cow visited A+ B- C+
expect * hits > 2
expect anon_vma objects anon_vma 7
expect cow objects anon_vma 7
expect cow avcs 1
expect anon_vma,pte_chain visits 0
A fork D
expect cow locks 3
expect cow useless > 99
expect cow total walks 5
"""
    assert failed(text, ["anon_vma", "cow"], walks="none") == [
        "a.scn:9: expected cow visits 2, found 3",
        "a.scn:10: expected cow useless < 1, found 1",
        "a.scn:11: expected anon_vma visited A+ B+, found A+ C+",
        "a.scn:12: expected cow visited A+ B- C+, found A+ C+ B-",
        "a.scn:13: expected anon_vma hits > 2, found 2",
        "a.scn:13: expected cow hits > 2, found 2",
        "a.scn:14: expected anon_vma live anon_vma 7, found 6",
        "a.scn:15: expected cow live anon_vma 7, found no kind of object of the name anon_vma",
        "a.scn:16: expected cow avcs 1, found no metric of walks of the name avcs",
        "a.scn:17: expected anon_vma visits 0, found 2",
        "a.scn:19: expected cow locks 3, found 1",
        "a.scn:20: expected cow useless in total > 99, found 2",
        "a.scn:21: expected cow walks in total 5, found 2",
    ]


@pytest.mark.parametrize("backend", ["native", "frames"])
def test_only_models_that_were_asked_for_are_checked(backend: str) -> None:
    trace = parse(SHARED + "expect anon_vma visits 2\nexpect cow visits 9\n").trace()
    told = rr.replay(trace, "anon_vma", backend=backend).summary["expectations"]
    assert told == {"checked": 1, "failed": []}
    told = rr.replay(trace, "cow", backend=backend).summary["expectations"]
    assert told == {"checked": 1, "failed": ["scenario:10: expected cow visits 9, found 3"]}
    assert "expectations" not in rr.replay(parse(SHARED).trace(), "cow").summary


def test_a_walk_of_nothing_is_told() -> None:
    text = "A map x 2\nA write x\nwalk A x+1\nexpect cow visits 1\n"
    for walks in ("none", "every:1,kind=all"):
        summary = rr.replay(parse(text).trace(), "cow", walks=walks).summary
        assert summary["expectations"]["failed"] == [
            "scenario:4: expected cow visits 1, found no walk: no anonymous page is mapped there"
        ]


def test_expectations_travel_with_the_trace(tmp_path: Path) -> None:
    scenario = parse(SHARED + "expect cow visited A+ C+ B@x-\nexpect cow visits 4\n", "a.scn")
    trace = scenario.trace()
    path = tmp_path / "a.parquet"
    write_trace(path, [trace.frame().to_arrow().to_batches()[0].cast(FILE_SCHEMA)], trace.metadata)
    told = rr.replay(path, ["cow", "pte_chain"]).summary["expectations"]
    assert told == {"checked": 2, "failed": ["a.scn:10: expected cow visits 4, found 3"]}


def test_what_a_scenario_is_shrunk_to_expects_nothing() -> None:
    """Its expectations speak of rows that are others now."""
    trace = parse(SHARED + "expect cow visits 3\n").trace()
    models = ["anon_vma", "cow"]
    divergence = rr.first_divergence(trace, models, "visits", walks="none")
    assert divergence is not None
    small = shrink_divergence(trace, models, divergence).trace
    assert small.rows < trace.rows
    assert "expect" not in small.metadata
    assert "walk p100 x all" in to_text(small)


def test_visits_before_and_after_their_walks() -> None:
    """A table is handed on when it is full: walks of many visits fill theirs first."""
    text = """
    A map x 800
    A write x whole
    for i in 1..99
      A fork C{i}
    end
    walk A x
    expect anon_vma visits 100
    walk A x+700 100
    expect anon_vma visited nothing
    """
    scenario = parse(text)
    told = rr.replay(scenario.trace(), "anon_vma", walks="every:50,kind=all").summary
    [line] = told["expectations"]["failed"]
    assert line.count("+") == 100


def test_files_and_other_sources(tmp_path: Path) -> None:
    path = tmp_path / "a.scn"
    with pytest.raises(rr.RmapReplayError, match=f"{path}: no such file"):
        rr.read_trace(path)
    path.write_bytes(b"A map x 1\nA \xff")
    with pytest.raises(ScenarioError, match=f"{path}:2:1: not UTF-8 text"):
        rr.read_trace(path)
    path.write_text("A map x 1\n")
    assert rr.read_trace(path).rows == 2
    assert rr.read_trace(path).path == path


def test_processes_have_their_names() -> None:
    """In explain and compare, also of children; those called by their pid have none."""
    text = "A map x 1\nA write x\nA fork B\np200 exec\nwalk A x\n"
    trace = parse(text).trace()
    assert comms(trace).rows() == [(100, 0, "A"), (101, 0, "B")]
    told = rr.explain(trace, 0, "cow", walks="none").text()
    assert "pid 100 (A), mm 1" in told
    assert "pid 101 (B), mm 2" in told
