# SPDX-License-Identifier: GPL-2.0-only
"""explain: scenarios whose every line can be said beforehand."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

import rmapreplay as rr

PAGE = 4096
HEAP = 0x7F0000000000
AWAY = 0x7F5500000000


def _row(op, pid, **more):
    return {"op": op, "pid": pid, **more}


def _write(pid, page=0, at=HEAP):
    return _row("fault", pid, addr=at + page * PAGE, write=True, source="user")


def _fork(parent, child):
    return _row("fork", parent, flags=0, child=child, child_tid=child)


def _walk(pid=100, page=0, at=HEAP, kind="referenced"):
    return _row("walk", pid, addr=at + page * PAGE, kind=kind)


START = [
    _row("exec", 100, path="/usr/bin/testee"),
    _row("mmap", 100, addr=HEAP, len=4 * PAGE, flags=0x22, prot=3),
    _write(100),
]
"""A process with a page, in rows 0 to 2."""

# 200 copies the page, 201 shares it.
FAMILY = [*START, _fork(100, 200), _fork(100, 201), _write(200), _walk()]


@pytest.fixture
def told(write_rows, tmp_path):
    """told(rows, *models): the only recorded walk of some rows."""

    def tell(rows, *models):
        return rr.explain(
            write_rows(tmp_path / "trace.parquet", rows), 0, list(models), walks="none"
        )

    return tell


def _reason(told, rows, model="anon_vma"):
    """Of the only useless visit."""
    (visit,) = [v for v in told(rows, model).stories[0].visits if v.result != "hit"]
    return visit


# The tree of three equal offsets has the second at its root: its search reads the root and the
# first, then the third.
ANON_VMA = """\
  row 6: 100 walk       addr=0x7f0000000000 kind=referenced
  anon_vma, rules of Linux 7.3: 3 visits, 2 hit, 1 useless
    folio of 1 page, index 0x7f0000000, mapcount 2, not exclusive
      walked from pid 100, mm 1, at 0x7f0000000000 (anon, 0 forks deep)
      homed at anon_vma 2: root 2, refcount 3, num_children 3, num_active_vmas 1
    fork tree
      pid 100 (testee), mm 1, exec at row 0, alive; maps it at 0x7f0000000000
        pid 200 (testee), mm 2, forked at row 3, alive; visited in vain
        pid 201 (testee), mm 3, forked at row 4, alive; maps it at 0x7f0000000000
    visits, as anon_vma makes them
      #0 pid 100 (testee), mm 1, at 0x7f0000000000: hit
        VMA 7f0000000000-7f0000004000 rw-p anon
        spent tree_nodes 2, avcs 1, root_lock_read 1, levels 4
      #1 pid 200 (testee), mm 2, at 0x7f0000000000: useless
        another folio, its own since the write fault at row 5
        VMA 7f0000000000-7f0000004000 rw-p anon
        spent avcs 1, levels 4
      #2 pid 201 (testee), mm 3, at 0x7f0000000000: hit
        VMA 7f0000000000-7f0000004000 rw-p anon
        spent tree_nodes 1, avcs 1, levels 4
    stopped at #2: found all 2 mappings"""


def test_a_family_under_anon_vma(told):
    text = told(FAMILY, "anon_vma").text()
    headline, rest = text[: text.index("  row")], text[text.index("  row") :]
    words = " ".join(headline.split())
    assert re.fullmatch(r"walk 0 \(referenced\) of \S*\.parquet, --walks none", words)
    assert rest == ANON_VMA


# The home first, then its children, the newest before the one that has a copy.
COW = """\
  cow, rules of Linux 7.3: 2 visits, 2 hit, 0 useless
    folio of 1 page, index 0x7f0000000, mapcount 2, not exclusive
      walked from pid 100, mm 1, at 0x7f0000000000 (anon, 0 forks deep)
      homed at cow_context 0: mm 1, refcount 5
    fork tree
      pid 100 (testee), mm 1, exec at row 0, alive; maps it at 0x7f0000000000
        pid 201 (testee), mm 3, forked at row 4, alive; maps it at 0x7f0000000000
    visits, as cow makes them
      #0 pid 100 (testee), mm 1, at 0x7f0000000000: hit
        VMA 7f0000000000-7f0000004000 rw-p anon
        spent contexts_live 1, mmget 1, vma_lookups 1, levels 4
      #1 pid 201 (testee), mm 3, at 0x7f0000000000: hit
        VMA 7f0000000000-7f0000004000 rw-p anon
        spent contexts_live 1, mmget 1, vma_lookups 1, remap_lookups 1, levels 4
    stopped at #1: found all 2 mappings"""


def test_a_family_under_cow_and_the_difference(told):
    both = told(FAMILY, "anon_vma", "cow")
    assert both.difference == (
        "cow visits 1 VMA fewer than anon_vma (2 against 3): not that of pid 200, in vain; "
        "both find 2 of 2 mappings"
    )
    text = both.text()
    assert " ".join(text.split("\n  walk")[0].split()) == both.difference
    assert text[text.index("  cow, rules") :] == COW.replace("refcount 5", _refcount(both))


def _refcount(both):
    """1 for the mm, 1 for each of two children, 1 for the folio, and 1 for that of exec's stack."""
    fields = {field["name"]: field["value"] for field in both.stories[1].home["fields"]}
    assert fields["refcount"] == 5
    return "refcount 5"


def test_models_that_do_the_same(told):
    both = told([*START, _walk()], "anon_vma", "anon_vma_global")
    assert both.difference == (
        "anon_vma_global and anon_vma visit the same VMAs in the same order; "
        "both find 1 of 1 mappings"
    )


# ---- why in vain ----


def test_given_up(told):
    rows = [*START, _fork(100, 200), _fork(100, 201)]
    rows += [_row("madvise", 200, addr=HEAP, len=PAGE, advice=4), _walk()]
    visit = _reason(told, rows)
    assert (visit.result, visit.because, visit.row) == ("empty", "unmapped", 5)
    assert visit.reason == "nothing mapped there since MADV_DONTNEED at row 5"
    assert visit.mm.pid == 200


def test_not_written_since_the_fork(told):
    rows = [*START, _fork(100, 200), _write(100, 1), _walk(page=1, kind="all")]
    visit = _reason(told, rows)
    assert (visit.because, visit.row) == ("not_since_fork", 3)
    assert visit.reason == "nothing mapped there: not written since its fork at row 3"


def test_read_only(told):
    read = {**_write(200, 1), "write": False}
    visit = _reason(
        told, [*START, _fork(100, 200), _write(100, 1), read, _walk(page=1, kind="all")]
    )
    assert visit.because == "zero_page"


def test_in_swap(told):
    rows = [*START, _fork(100, 200), _fork(100, 201)]
    rows += [_row("swap_out", 200, addr=HEAP, len=PAGE), _walk()]
    visit = _reason(told, rows)
    assert (visit.because, visit.reason) == ("swap", "a swap entry there (swap_out at row 5)")


def test_a_guard(told):
    rows = [*START, _fork(100, 200), _write(100, 1)]
    rows += [_row("madvise", 200, addr=HEAP + PAGE, len=PAGE, advice=102)]
    visit = _reason(told, [*rows, _walk(page=1, kind="all")])
    assert visit.because == "guard"


def test_inherited(told):
    """The parent's copy is what its child has; its page is what the eldest child has alone."""
    rows = [*START, _fork(100, 200), _write(100), _fork(100, 201), _walk(pid=200, kind="all")]
    parent, _, young = told(rows, "anon_vma").stories[0].visits
    assert (parent.because, parent.row) == ("own_write", 4)
    assert parent.reason.endswith("write fault at row 4, mapped 2 times now")
    assert (young.because, young.row) == ("inherited", 5)
    assert young.reason == "another folio, mapped 2 times now, there since its fork at row 5"


# ---- where a walk ends ----


def test_a_locked_vma(told):
    rows = [*START, _row("mlock", 100, addr=HEAP, len=4 * PAGE, flags=0), _fork(100, 200), _walk()]
    story = told(rows, "anon_vma").stories[0]
    assert story.end["code"] == "locked"
    assert story.end["text"] == "stopped at #0: the VMA is locked (found 1 of 2 mappings)"
    (entry,) = [p for p in story.processes if p.mm.pid == 200]
    assert (entry.addresses, entry.found) == ([HEAP], 0)
    assert story.missed == []


def test_no_more(told):
    story = told([*FAMILY[:-1], _walk(kind="all")], "anon_vma").stories[0]
    assert story.end["code"] == "no_more"
    assert story.end["text"] == "the model had no more VMAs: found all 2 mappings"


def test_a_miss(told):
    """The proof of concept does not ask where an exclusive page was moved to."""
    moved = _row("mremap", 100, addr=HEAP, len=4 * PAGE, new_addr=AWAY, new_len=4 * PAGE, flags=3)
    both = told([*START, moved, _walk(at=AWAY)], "cow-poc", "cow")
    poc, cow = both.stories
    assert both.difference == (
        "cow visits 1 VMA more than cow-poc (1 against 0): also that of pid 100, which has the "
        "folio; cow-poc misses 1 of 1 mappings"
    )
    assert poc.missed == [{"mm": 1, "pid": 100, "addr": AWAY}]
    assert poc.end["text"] == "the model had no more VMAs: found 0 of 1 mappings"
    assert "maps it at 0x7f5500000000; not offered: MISSED" in both.text()
    assert cow.visits[0].vma.displacement == (AWAY - HEAP) // PAGE
    assert cow.visits[0].spent["remap_entries"] == 1


def test_the_dead_are_on_the_tree(told):
    """Who is gone, but has living children of both kinds, is where their lines part."""
    rows = [*START, _fork(100, 200), _fork(200, 300), _fork(200, 301), _write(300)]
    rows += [_row("exit", 200), _walk(kind="all")]
    text = told(rows, "anon_vma").text()
    assert "  pid 200 (testee), mm 2, forked at row 3, gone at row 7\n" in text
    shown = [process.mm.mm for process in told(rows, "anon_vma").stories[0].processes]
    assert shown == [1, 2, 3, 4]


# ---- many ----


def test_many_visits_in_few_lines(told):
    children = range(1000, 1040)
    rows = [*START, *(_fork(100, child) for child in children)]
    rows += [_write(child) for child in children[:-1]] + [_walk()]
    explanation = told(rows, "anon_vma")
    story = explanation.stories[0]
    assert [visit.result for visit in story.visits] == ["hit", *["other"] * 39, "hit"]
    lines = [line.strip() for line in explanation.text().splitlines()]
    assert "#10 to #39: 30 more, 0 hit, 30 useless (--all shows each)" in lines
    assert "30 useless: another folio: its own, since a write" in lines
    assert "and 32 more: 1 map it, 31 visited in vain" in lines
    assert sum(line.startswith("#") for line in lines) == 12
    every = [line.strip() for line in explanation.text(everything=True).splitlines()]
    assert sum(line.startswith("#") for line in every) == 41
    # What the sum says was spent is what the visits spent that it stands for.
    (spent,) = [line for line in lines if line.startswith("spent") and "avcs 30" in line]
    nodes = sum(visit.spent["tree_nodes"] for visit in story.visits[10:-1])
    assert spent == f"spent tree_nodes {nodes}, avcs 30, levels 120"


# ---- large folios ----


def test_a_large_folio(told):
    """16 pages; the child writes one of them, and so visits of it find 15."""
    rows = [
        START[0],
        _row("mmap", 100, addr=HEAP, len=16 * PAGE, flags=0x22, prot=3),
        {**_write(100), "order": 4},
        _fork(100, 200),
        {**_write(200, 3), "order": 0},
        _walk(kind="all"),
    ]
    parent, child = told(rows, "anon_vma").stories[0].visits
    assert (parent.pages, parent.hits, parent.addr) == (16, 16, HEAP)
    assert (child.pages, child.hits) == (16, 15)


# ---- as graphs ----


def test_graphviz_reads_it(told):
    dot = told(FAMILY, "anon_vma", "cow").dot()
    assert dot.count("subgraph cluster_") == 2
    assert 'm0_mm2 [label="pid 200 (testee), mm 2' in dot
    assert "m0_mm1 -> m0_mm2;" in dot
    assert 'm0_mm1 -> m0_mm2 [label="#1", style=dashed' in dot
    if shutil.which("dot") is None:
        pytest.skip("graphviz is not installed")
    done = subprocess.run(["dot", "-Tplain"], input=dot, text=True, capture_output=True, check=True)
    assert done.stderr == ""
    nodes = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("node")]
    assert sorted(nodes) == sorted(
        ["m0_folio", "m0_mm1", "m0_mm2", "m0_mm3", "m1_folio", "m1_mm1", "m1_mm3"]
    )


def test_mermaid_has_its_shape(told):
    text = told(FAMILY, "anon_vma", "cow").mermaid()
    lines = text.splitlines()
    assert lines[0] == lines[2] == "---"
    assert re.fullmatch(r'title: ".*walk 0 \(referenced\) at row 6"', lines[1])
    assert lines[3] == "flowchart TB"
    shapes = (
        r'  subgraph model_\d\["[^"]*"\]|  end',
        r'    m\d_(folio|mm\d+)\["[^"]*"\]:::(hit|useless|missed|other)',
        r"    m\d_mm\d+ --> m\d_mm\d+",
        r'    m\d_(folio|mm\d+) -\. "#35;\d+" \.-> m\d_mm\d+',
        r"  classDef \w+ fill:#[0-9a-f]{6},color:#000",
    )
    for line in lines[4:]:
        assert any(re.fullmatch(shape, line) for shape in shapes), line
    assert text.count("  subgraph") == text.count("\n  end") == 2


# ---- errors ----


def test_a_walk_that_is_not_there(write_rows, tmp_path):
    trace = write_rows(tmp_path / "trace.parquet", FAMILY)
    with pytest.raises(rr.RmapReplayError, match="no walk 1 under cow .*: there are one, number 0"):
        rr.explain(trace, 1, "cow", walks="none")
    with pytest.raises(rr.RmapReplayError, match="counted from 0"):
        rr.explain(trace, -1, "cow")
    with pytest.raises(rr.RmapReplayError, match="one of scan:K"):
        rr.explain(trace, 0, "cow", walks="often")


def test_a_walk_at_the_end_of_a_trace(write_rows, tmp_path):
    """Due when all rows are in: the state is the last row's."""
    trace = write_rows(tmp_path / "trace.parquet", FAMILY[:-1])
    result = rr.replay(trace, ["anon_vma"], walks="end")
    number, folio = result.walks.filter(result.walks["visits"] == 3)["walk", "folio"].row(0)
    story = rr.explain(trace, number, "anon_vma", walks="end").stories[0]
    assert (story.walk["seq"], story.folio["folio"]) == (5, folio)
    assert [visit.mm.pid for visit in story.visits] == [100, 200, 201]
