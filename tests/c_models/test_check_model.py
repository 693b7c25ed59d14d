# SPDX-License-Identifier: GPL-2.0-only
"""check-model on C models: one that is right, and one that crashes now and then."""

from __future__ import annotations

import shlex
from pathlib import Path

from rmapreplay.testing import check_model, conformance_cases

TEMPLATE = Path(__file__).parents[2] / "templates" / "c_model" / "pte_chain.c"


def test_the_template_passes(compile_model, tmp_path):
    report = check_model(
        str(compile_model(TEMPLATE)), kernel="7.3", only=["hole", "merge", "random", "determinism"],
        seeds=5, out=tmp_path,
    )  # fmt: skip
    assert report.passed, str(report)


def test_a_crash_is_a_finding_and_the_rest_goes_on(compile_model, tmp_path, cli):
    library = compile_model(ON_FORK="abort()")
    report = check_model(str(library), kernel="7.3", only=["rmap", "random"], seeds=5, out=tmp_path)
    crashed = {check.name: check.finding for check in report.failed}
    forks = {
        case.name
        for case in conformance_cases()
        if case.name.startswith("rmap") and any(row["op"] == "fork" for row in case.rows("7.3")[0])
    }
    assert set(crashed) == forks | {"random"}
    assert len(forks) < len([check for check in report.checks if check.name.startswith("rmap")])
    finding = crashed["rmap_family_shares_a_page"]
    assert (finding.rule, finding.text) == ("crash", "killed by SIGABRT")
    assert finding.rows == 2  # exec writes to its stack, fork copies that
    assert finding.event.split()[1] == "fork"
    assert any("faulted" in line for line in finding.state)
    done = cli(*shlex.split(finding.command)[1:])
    assert done.returncode == 2
    assert "SIGABRT" in done.stderr
