# SPDX-License-Identifier: GPL-2.0-only
"""check-model on the built-in models: all pass but cow-poc, whose six holes it names."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pytest

import rmapreplay as rr
from rmapreplay.testing import check_model, conformance_cases
from rmapreplay.testing.scenarios import KERNELS
from rmapreplay.traces.schema import FILE_SCHEMA, NAMED_COLUMNS

MORE = int(os.environ.get("RMAPREPLAY_FUZZ_SEEDS", "0"))
RIGHT = [model["name"] for model in rr.models() if model["name"] != "cow-poc"]
HOLES = {
    "hole_1_exclusive_and_displaced": (4, "mremap"),
    "hole_2_exclusive_at_an_ancestor": (5, "munmap"),
    "hole_3_shared_page_swapped_in": (8, "fault"),
    "hole_4_walk_while_fork_copies": (6, "dup_mmap"),
    "hole_5_a_smaller_displacement": (9, "mremap"),
    "hole_6_a_part_is_moved": (5, "mremap"),
}
"""Rows of the minimal trace, and the operation after which a mapping is missed."""


@pytest.mark.parametrize("model", RIGHT)
def test_a_right_model_passes(model, tmp_path):
    """The random sequences of tests/property are for every model too."""
    report = check_model(
        model, kernel="all" if MORE else "7.3", seeds=max(5, 20 * MORE), out=tmp_path / "no"
    )
    assert report.passed, str(report)


def test_older_rules(tmp_path):
    for kernel in ("6.18", "6.12"):
        report = check_model("anon_vma", kernel=kernel, seeds=5, out=tmp_path)
        assert report.passed, str(report)
        assert report.kernels == (kernel,)
    skipped = {check.name for check in report.checks if check.skipped}
    assert skipped == {"mremap_several_vmas_at_once"}


def test_the_holes_of_cow_poc_are_named(tmp_path, cli):
    done = cli("check-model", "cow-poc", "--only", "hole", "-o", tmp_path, "--format", "json")
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert not report["passed"]
    assert {check["name"] for check in report["checks"]} == set(HOLES)
    for check in report["checks"]:
        finding = check["finding"]
        assert (check["result"], finding["rule"]) == ("fail", "miss")
        rows, op = HOLES[check["name"]]
        assert finding["rows"] == rows
        assert finding["row"] == rows - 1
        assert finding["event"].split()[1] == op
        trace = rr.read_trace(finding["trace"])
        assert trace.rows == rows
        for model, misses in (("cow-poc", True), ("cow", False)):
            result = rr.replay(trace, model, walks="every:1,kind=all", verify="all")
            assert bool(result.summary["models"][model]["misses"]) is misses
            assert result.summary["anomalies"] == {}


def test_scenarios_cover_every_operation():
    """Recorded walks change nothing, and every folio is walked anyway; mlockall() does nothing to
    mappings that mlock() does not."""
    done = {row["op"] for case in conformance_cases() for row in case.rows("7.3")[0]}
    assert set(NAMED_COLUMNS["op"]) - done == {"walk", "mlockall", "munlockall"}


@pytest.mark.parametrize("kernel", KERNELS)
def test_scenarios_are_traces_that_could_be(kernel):
    """A reader takes them, and the machine has nothing to object to."""
    for case in conformance_cases():
        if kernel in case.kernels:
            rows, metadata = case.rows(kernel)
            table = pa.Table.from_pylist(rows, schema=FILE_SCHEMA)
            trace = rr.read_trace(table, metadata={"schema_version": 2, **metadata})
            summary = rr.replay(trace, "anon_vma", walks="end").summary
            assert summary["events"] == len(rows)
            assert summary["anomalies"] == {}, case.name


def test_cases_are_told_apart():
    cases = conformance_cases()
    assert len({case.name for case in cases}) == len(cases)
    assert all(case.about.endswith(".") for case in cases)
    assert all(case.name.isidentifier() for case in cases)
