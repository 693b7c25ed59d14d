# SPDX-License-Identifier: GPL-2.0-only
"""inspect: a small state said beforehand, and bundled traces beside what a timeline has of them."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
PAGE = 4096
HEAP = 0x7F0000000000
AWAY = 0x7F5500000000

ROWS = [
    {"op": "exec", "pid": 100, "path": "/usr/bin/testee"},
    {"op": "mmap", "pid": 100, "addr": HEAP, "len": 4 * PAGE, "flags": 0x22, "prot": 3},
    {"op": "fault", "pid": 100, "addr": HEAP, "write": True, "source": "user"},
    {"op": "fork", "pid": 100, "flags": 0, "child": 200, "child_tid": 200},
    {"op": "fault", "pid": 100, "addr": HEAP + PAGE, "write": True, "source": "user"},
    {
        "op": "mremap",
        "pid": 200,
        "addr": HEAP,
        "len": 4 * PAGE,
        "new_addr": AWAY,
        "new_len": 4 * PAGE,
        "flags": 3,
    },
    {"op": "exit", "pid": 100},
]


@pytest.fixture
def trace(write_rows, tmp_path):
    return write_rows(tmp_path / "trace.parquet", ROWS)


FAMILY = """\
  row 4: 100 fault      addr=0x7f0000001000 write=True source=user
  1 address space, 2 VMAs
    pid 100 (testee), mm 1, exec at row 0, alive
      pid 200 (testee), mm 2, forked at row 3, alive: 2 VMAs, 2 anonymous pages (2 shared)
        7f0000000000-7f0000004000 rw-p anon; 1 anonymous page (1 shared); home 3, linked to 2
        7fffffffe000-7ffffffff000 rw-p stack, growsdown; 1 anonymous page (1 shared); home 4, linked
            to 1
  live in the whole replay
    vm_area_struct 4, 768 bytes
    anon_vma 4, 416 bytes
    anon_vma_chain 6, 384 bytes
  the model's objects that these VMAs lead to
    anon_vma 1: root 1, refcount 2, num_children 2, num_active_vmas 1
      home of 1 VMA: pid 100 at 7fffffffe000
      linked to 2 VMAs: pid 100 at 7fffffffe000, pid 200 at 7fffffffe000
    anon_vma 2: root 2, refcount 2, num_children 2, num_active_vmas 1
      home of 1 VMA: pid 100 at 7f0000000000
      linked to 2 VMAs: pid 100 at 7f0000000000, pid 200 at 7f0000000000
    anon_vma 3: root 2, parent 2, refcount 1, num_children 0, num_active_vmas 1
      home of 1 VMA: pid 200 at 7f0000000000
      linked to 1 VMA: pid 200 at 7f0000000000
    anon_vma 4: root 1, parent 1, refcount 1, num_children 0, num_active_vmas 1
      home of 1 VMA: pid 200 at 7fffffffe000
      linked to 1 VMA: pid 200 at 7fffffffe000"""


def test_a_family(trace):
    text = rr.inspect(trace, 4, pid=200).text()
    headline, rest = text[: text.index("  row")], text[text.index("  row") :]
    assert " ".join(headline.split()).endswith("after row 4, under anon_vma, rules of Linux 7.3")
    assert rest == FAMILY


def test_what_an_address_holds(trace):
    one, other = rr.inspect(trace, 4, addr=HEAP + 5).places
    assert [(at["pid"], at["addr"]) for at in one.sharers] == [(100, HEAP), (200, HEAP)]
    assert (one.addr, one.page["mapcount"], one.page["exclusive"]) == (HEAP, 2, False)
    assert one.sharers == other.sharers
    own, none = rr.inspect(trace, 4, addr=HEAP + PAGE).places
    assert (own.page["what"], own.page["mapcount"], own.mm.pid) == ("folio", 1, 100)
    assert own.page["exclusive"]
    assert (none.page["what"], none.sharers, none.home) == ("nothing", [], None)
    text = rr.inspect(trace, 4, pid=100, addr=HEAP).text()
    assert "  0x7f0000000000 of pid 100 (testee), mm 1: a folio of 1 page\n" in text
    assert "\n    mapped by 2 entries\n      pid 100, mm 1, at 0x7f0000000000\n" in text


def test_where_cow_knows_memory_to_be(trace):
    state = rr.inspect(trace, 5, "cow", pid=200)
    (moved,) = [vma for vma in state.vmas if vma.start == AWAY]
    assert moved.displacement == (AWAY - HEAP) // PAGE
    context = next(o for o in state.objects if o["object"] == moved.home)
    at = next(r for r in context["remaps"] if r["first"] == HEAP // PAGE)
    assert at == {
        "first": HEAP // PAGE,
        "last": HEAP // PAGE + 3,
        "displacement": moved.displacement,
    }
    assert f"lies {moved.displacement:+,} pages further on" in state.text()


def test_who_is_gone(trace):
    state = rr.inspect(trace, 6)
    assert [(mm.pid, mm.state) for mm in state.mms] == [(200, "alive")]
    assert [(mm.pid, mm.state, mm.gone) for mm in state.ancestors] == [(100, "gone", 6)]
    assert "    pid 100 (testee), mm 1, exec at row 0, gone at row 6\n" in state.text()


def test_errors(trace):
    with pytest.raises(rr.RmapReplayError, match="no row 7: the trace has rows 0 to 6"):
        rr.inspect(trace, 7)
    with pytest.raises(
        rr.RmapReplayError, match="no process 7 lives after row 6: there are 1: 200"
    ):
        rr.inspect(trace, 6, pid=7)
    with pytest.raises(rr.RmapReplayError, match="no VMA of pid 200 covers 0x1000 after row 6"):
        rr.inspect(trace, 6, pid=200, addr=0x1000)


@pytest.fixture(scope="module")
def histories():
    """By name of a bundled trace and model its timeline."""
    return {
        (name, model): rr.timeline(CORPUS / f"{name}.parquet", model, walks="none")
        for name in ("scen", "forky")
        for model in ("anon_vma", "cow")
    }


@pytest.mark.parametrize("name", ["scen", "forky"])
@pytest.mark.parametrize("model", ["anon_vma", "cow"])
def test_equals_the_timeline(histories, name, model):
    history = histories[name, model]
    events = history.metadata["events"]
    for seq in (0, events // 3, events // 2, events - 40):
        state = rr.inspect(CORPUS / f"{name}.parquet", seq, model)
        lived = history.at("mms", seq).sort("mm").collect()
        # A pid may have passed to another since, and what is dying has no VMAs to tell it by.
        columns = ("mm", "comm", "parent", "how", "born")
        assert [tuple(getattr(mm, name) for name in columns) for mm in state.mms] == lived.select(
            pl.col("mm", "comm", "parent"), pl.col("how").cast(pl.String), "born"
        ).rows()
        spans = history.at("vma_spans", seq).sort("mm", "start").collect()
        assert [(v.vma, v.mm, v.start, v.end, v.index, v.flags, v.faulted) for v in state.vmas] == (
            spans.select("vma", "mm", "start", "end", "anon_pgoff", "flags", "faulted").rows()
        )
        mappings = history.at("mappings", seq).collect()
        sharers = Counter(mappings["folio"])
        pages, shared = Counter(), Counter()
        for folio, mm, page, n in mappings.select("folio", "mm", "page", "pages").iter_rows():
            (vma,) = [v for v in state.vmas if v.mm == mm and v.start <= page * PAGE < v.end]
            pages[vma.vma] += n
            shared[vma.vma] += n if sharers[folio] > 1 else 0
        assert {v.vma: v.anon for v in state.vmas if v.anon} == dict(pages)
        assert {v.vma: v.shared for v in state.vmas if v.shared} == dict(+shared)
        links = history.at("link_spans", seq).collect()
        expected = Counter(links["vma"])
        assert {v.vma: len(v.chain) for v in state.vmas if v.chain} == dict(expected)
        objects = {each["object"]: each for each in state.objects}
        homes = Counter(v.home for v in state.vmas if v.faulted)
        assert {handle: len(o["homes"]) for handle, o in objects.items() if o["homes"]} == homes
        remaps = history.at("remap_spans", seq).collect()
        told = itertools.chain.from_iterable(each["remaps"] for each in state.objects)
        assert Counter((r["first"], r["last"], r["displacement"]) for r in told) == Counter(
            remaps.select("first", "last", "displacement").rows()
        )
