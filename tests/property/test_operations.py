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
from rmapreplay.testing.naive import Naive, Space
from rmapreplay.testing.operations import Operations

FAILURES = Path(__file__).with_name("failures")
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


BUILT_IN = {str(model["name"]): model["needs"] for model in rr.models()}
MISSES = "cow-poc"


class Written(Operations):
    """Sequences that fail are written to files."""

    failures = FAILURES

    def report(self, error: Exception) -> None:
        path = self.comparison.write(self.failures / type(self).__name__)
        raise AssertionError(
            f"{error}\nthe sequence is in {path} (and .txt): "
            f"rmapreplay run {path} --model anon_vma --verify all"
        ) from error


class FoundByOffset(Written):
    models = tuple(
        name for name, needs in BUILT_IN.items() if not needs["index_is_address"] and name != MISSES
    )


class FoundByAddress(Written):
    """Models for which mremap() copies what is shared."""

    models = tuple(name for name, needs in BUILT_IN.items() if needs["index_is_address"])

    def truth(self) -> Naive:
        return Naive(index_is_address=True)


class TestFoundByOffset(FoundByOffset.TestCase):
    settings = settings(COMMON, max_examples=60 * max(1, MORE))


class TestFoundByAddress(FoundByAddress.TestCase):
    settings = settings(COMMON, max_examples=30 * max(1, MORE))


class KeepsAll(Naive):
    """A truth that is wrong: MADV_DONTNEED frees nothing."""

    def dont_need(self, space: Space, start: int, end: int) -> None:
        pass


def fail(machine: type[Written]) -> tuple[str, Path]:
    """Run until the failure that must come; returns what it says, and the trace it left."""
    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(
            machine,
            settings=settings(COMMON, derandomize=True, max_examples=500, stateful_step_count=10),
        )
    return str(caught.value), machine.failures / f"{machine.__name__}.parquet"


def test_a_difference_is_shrunk_and_written_out(tmp_path, cli):
    class Planted(Written):
        models = ("anon_vma",)
        failures = tmp_path

        def truth(self) -> Naive:
            return KeepsAll()

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
    class Missing(Written):
        models = (MISSES,)
        failures = tmp_path

    text, trace = fail(Missing)
    assert "cow-poc, walk " in text
    assert "was not visited" in text
    done = cli("run", trace, "--model=cow-poc", "--walks=every:1,kind=all")
    assert done.returncode == 1
    assert "cow-poc missed" in done.stdout
    assert cli("run", trace, "--model=cow", "--walks=every:1,kind=all").returncode == 0
