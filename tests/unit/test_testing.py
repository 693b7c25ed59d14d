# SPDX-License-Identifier: GPL-2.0-only
"""The parts of the kit that tells whether a model is right."""

from __future__ import annotations

import os
import signal
import time

import pyarrow as pa
import pytest

from rmapreplay.testing import examine
from rmapreplay.testing.calls import Calls
from rmapreplay.testing.isolate import CrashError, isolated
from rmapreplay.testing.naive import Naive
from rmapreplay.testing.scenarios import conformance_cases
from rmapreplay.testing.shrink import shrink

# ---- shrink ----


def test_shrink_keeps_what_is_needed_and_the_last():
    needed = {3, 40, 41, 77}
    tried = []

    def shows(rows: list[int]) -> bool:
        tried.append(rows)
        return needed <= set(rows)

    assert shrink(range(100), shows, 10) == [3, 40, 41, 77, 99]
    assert all(rows[-1] == 99 for rows in tried)
    assert shrink(range(100), shows, 10, keep_last=False) == [3, 40, 41, 77]


def test_shrink_leaves_out_two_that_go_together():
    def shows(rows: list[str]) -> bool:
        return "x" in rows and ("fork" in rows) == ("exit" in rows)

    assert shrink(["a", "fork", "x", "b", "exit", "end"], shows, 10) == ["x", "end"]


def test_shrink_ends_in_time():
    def shows(rows: list[int]) -> bool:
        time.sleep(0.01)
        return True

    begun = time.monotonic()
    shrink(range(1 << 14), lambda rows: shows(rows) and len(rows) > 1 << 13, 0.2)
    assert time.monotonic() - begun < 2


# ---- isolate ----


def test_isolated_returns_what_comes():
    assert isolated(lambda: (os.getpid() != parent, "x" * 200_000), 10) == (True, "x" * 200_000)


parent = os.getpid()


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "killed by SIGSEGV"),
        (lambda: os._exit(3), "ended the process with exit code 3"),
        (lambda: time.sleep(60), "did not return within 1 s"),
    ],
)
def test_isolated_tells_how_it_ended(action, text):
    with pytest.raises(CrashError, match=text):
        isolated(action, 1)


def test_isolated_passes_errors_on():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        isolated(lambda: 1 // 0, 10)


# ---- examine ----


def tables(*, visits: list[tuple[int, int, int]], memory: list[tuple[int, int, int]]):
    """Result tables of a replay under a model that does what no built-in one does."""
    found = examine._Tables()
    walks = {"walk": [0, 1], "seq": [4, 7], "mapcount": [1, 2], "misses": [0, 0]}
    walk, mm, start = zip(*visits, strict=True)
    seq, link, mms = zip(*memory, strict=True)
    for name, columns in {
        "walks": walks,
        "visits": {"walk": walk, "mm": mm, "pid": mm, "start": start},
        "misses": {"walk": pa.array([], pa.uint64())},
        "memory": {
            "seq": seq, "time": seq, "model": seq, "link": pa.array(link, pa.uint64()),
            "bytes": seq, "mms": mms,
        },
    }.items():  # fmt: skip
        found.write("m", name, pa.record_batch(columns))
    return found


GOOD = {"visits": [(0, 1, 0x1000), (1, 1, 0x1000), (1, 2, 0x1000)], "memory": [(4, 1, 1)]}


def test_nothing_is_wrong():
    assert examine._look(tables(**GOOD), examine.How()) is None


def test_a_vma_offered_twice():
    visits = [(0, 1, 0x1000), (1, 2, 0x1000), (1, 2, 0x1000)]
    flaw = examine._look(tables(**{**GOOD, "visits": visits}), examine.How())
    assert flaw
    assert (flaw.rule, flaw.row, len(flaw.offered)) == ("twice", 7, 2)
    assert flaw.text == "a walk was offered the VMA at 0x1000 of pid 2 2 times"


@pytest.mark.parametrize(
    ("memory", "text"),
    [
        ((2, (1 << 64) - 1, 1), "more link freed than allocated"),
        ((2, 3, 0), "no address space is left, but 3 link"),
    ],
)
def test_a_ledger_that_cannot_be(memory, text):
    flaw = examine._look(tables(**{**GOOD, "memory": [(1, 0, 0), memory]}), examine.How())
    assert flaw
    assert (flaw.rule, flaw.row, flaw.text) == ("accounting", 2, text)


# ---- the naive truth ----


class Rows:
    def add(self, row):
        pass

    def new_space(self, space):
        pass


@pytest.mark.parametrize(("index_is_address", "sharers"), [(False, 2), (True, 1)])
def test_where_the_index_is_the_address_a_move_copies_what_is_shared(index_is_address, sharers):
    naive = Naive(index_is_address=index_is_address)
    calls = Calls(naive, Rows(), "at_exit")
    pid = calls.process()
    calls.mmap(pid, 100, 2)
    calls.write(pid, 100, 2)
    child = calls.fork(pid)
    calls.write(child, 101)
    calls.mremap(pid, 100, 2, 200, 2)
    found = {page: len(all_) for all_ in naive.shared_folios().values() for _, page in all_}
    assert found[200] == sharers
    assert found[201] == 1  # a page of one alone goes along


def test_scenarios_are_the_same_each_time():
    for case in conformance_cases():
        assert case.rows("7.3") == case.rows("7.3")
