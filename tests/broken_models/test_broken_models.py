# SPDX-License-Identifier: GPL-2.0-only
"""check-model catches models that are wrong in one thing, each with a minimal trace that shows it
again, and lets the one pass that is right."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from rmapreplay.testing import Finding, check_model, conformance_cases

MODELS = Path(__file__).with_name("models.py")
MORE = int(os.environ.get("RMAPREPLAY_FUZZ_SEEDS", "0"))


class Caught(NamedTuple):
    """By which check a model must be caught, what it is told, and the most rows to show it."""

    check: str
    rule: str
    rows: int
    text: str = ""


CAUGHT = {
    "ForgetsSplit": Caught("rmap_read_only_in_a_child", "miss", 5),
    "ForgetsChild": Caught("rmap_family_shares_a_page", "miss", 2),
    "ForgetsMove": Caught("cow_moved_then_copied", "miss", 5),
    "LosesSurvivor": Caught("merge_faulted_joins_an_unfaulted", "miss", 7),
    "FreesTwice": Caught("rmap_one_page", "error", 2, "frees 1 of 'link', of which 0 live"),
    "NeverFrees": Caught("rmap_one_page", "accounting", 2, "no address space is left, but 1"),
    "Miscounts": Caught("cow_in_the_child", "accounting", 4, "no address space is left, but"),
    "OffersTwice": Caught("rmap_family_shares_a_page", "error", 5, "twice"),
    "OffersStale": Caught("rmap_family_shares_a_page", "error", 3, "which is none"),
    "OrderOfAddresses": Caught("determinism", "determinism", 6, "two replays"),
    "OrderOfHashes": Caught("determinism", "determinism", 30, "two processes"),
    "WrongRootHome": Caught("hole_3_shared_page_swapped_in", "miss", 8),
    "HomeChangesWithSplit": Caught("rmap_read_only_in_a_child", "miss", 5),
    "StopsAtExclusive": Caught("processes_chain_whose_middle_dies", "miss", 6),
    "MergesStrangers": Caught("merge_between_strangers", "error", 6),
}


def spec(name: str) -> str:
    return f"{MODELS}:{name}"


def test_the_right_model_passes(tmp_path):
    report = check_model(
        spec("Family"),
        kernel="all" if MORE else "7.3",
        seeds=10 * max(1, MORE),
        out=tmp_path / "no",
    )
    assert report.passed, str(report)
    assert {"random", "determinism"} <= {check.name for check in report.checks}
    assert len(report.checks) == len(conformance_cases()) + 2
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("name", CAUGHT)
def test_a_broken_model_is_caught(name, tmp_path, cli):
    caught = CAUGHT[name]
    (check,) = check_model(spec(name), kernel="7.3", only=[caught.check], out=tmp_path).checks
    finding = check.finding
    assert finding, f"{name} passed {check.name}"
    assert finding.rule == caught.rule
    assert caught.text in finding.text
    assert finding.rows <= caught.rows
    check_trace(finding, tmp_path / caught.check)
    # The trace shows the same again, as the report says, ...
    program, *arguments = shlex.split(finding.command)
    assert program == "rmapreplay"
    done = cli(*arguments, cwd=tmp_path)
    failed = 2 if finding.rule == "error" and arguments[0] == "run" else 1
    assert done.returncode == failed, done.stdout + done.stderr
    if finding.rule == "miss":
        assert f"{spec(name)} missed" in done.stdout
        assert any("MISSED" in line for line in finding.state)
    # ... and nothing with the model that is right.
    assert check_model(spec("Family"), only=["trace"], traces=[finding.trace]).passed


def check_trace(finding: Finding, path: Path) -> None:
    assert finding.trace == path.with_suffix(".parquet")
    listing = path.with_suffix(".txt").read_text().splitlines()[1:]
    assert len(listing) == finding.rows
    assert listing[finding.row].split(maxsplit=1)[1].split() == finding.event.split()


@pytest.mark.skipif(not MORE, reason="make fuzz")
@pytest.mark.parametrize("name", CAUGHT)
def test_all_checks(name, tmp_path):
    report = check_model(spec(name), out=tmp_path)
    assert CAUGHT[name].check in {check.name for check in report.failed}
