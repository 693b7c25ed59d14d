# SPDX-License-Identifier: GPL-2.0-only
"""Every model against the naive truth, over random sequences of operations; and that a sequence for
which they differ ends up, shrunk, in files that can be replayed.

By default the sequences are the same each time. RMAPREPLAY_FUZZ_SEEDS=n (`make fuzz`) tries n times
as many, others each time.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import rmapreplay as rr

from .naive import Naive, Space
from .operations import Operations

MORE = int(os.environ.get("RMAPREPLAY_FUZZ_SEEDS", "0"))
COMMON = settings(
    stateful_step_count=50,
    deadline=None,
    derandomize=not MORE,
    database=None,
    report_multiple_bugs=False,
    print_blob=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class TestOperations(Operations.TestCase):
    settings = settings(COMMON, max_examples=200 * max(1, MORE))


class KeepsAll(Naive):
    """A truth that is wrong: MADV_DONTNEED frees nothing."""

    def dont_need(self, space: Space, start: int, end: int) -> None:
        pass


def fail(machine: type[Operations]) -> tuple[str, Path]:
    """Run until the failure that must come; returns what it says, and the trace it left."""
    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(
            machine,
            settings=settings(COMMON, derandomize=True, max_examples=500, stateful_step_count=10),
        )
    return str(caught.value), machine.failures / f"{machine.__name__}.parquet"


def test_a_difference_is_shrunk_and_written_out(tmp_path, cli):
    class Planted(Operations):
        truth = KeepsAll
        failures = tmp_path

    text, trace = fail(Planted)
    assert f"the sequence is in {trace}" in text
    assert "truth alone: page " in text
    # An exec's rows, what is needed to see the fault, and little else.
    ops = rr.read_trace(trace).frame()["op"].cast(str).to_list()
    assert {"mmap", "madvise"} <= set(ops)
    assert len(ops) <= 10
    listing = trace.with_suffix(".txt").read_text().splitlines()
    assert len(listing) == 1 + len(ops)
    assert all(op in line for op, line in zip(ops, listing[1:], strict=True))
    done = cli("run", trace, "--model=anon_vma", "--model=cow", "--verify", "all")
    assert done.returncode == 0, done.stderr


def test_a_missed_mapping_is_shrunk_and_written_out(tmp_path, cli):
    """cow-poc misses mappings; were that not known, it would come out."""

    class Missing(Operations):
        may_miss = frozenset()
        failures = tmp_path

    text, trace = fail(Missing)
    assert "cow-poc, walk " in text
    assert "was not visited" in text
    done = cli("run", trace, "--model=cow-poc", "--walks=every:1,kind=all")
    assert done.returncode == 1
    assert "cow-poc missed" in done.stdout
    assert cli("run", trace, "--model=cow", "--walks=every:1,kind=all").returncode == 0
