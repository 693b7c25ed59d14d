# SPDX-License-Identifier: GPL-2.0-only
"""The frame models against the native ones, over random sequences of operations."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

import rmapreplay as rr
from rmapreplay.rmap_models.frames import NAMES
from rmapreplay.testing.operations import Operations

MORE = int(os.environ.get("RMAPREPLAY_FUZZ_SEEDS", "0"))
FAILURES = Path(__file__).with_name("failures")


class Framed(Operations):
    """Each sequence is replayed again, and walked as it goes, in both forms."""

    models = ("cow",)

    def teardown(self) -> None:
        super().teardown()
        with tempfile.TemporaryDirectory() as room:
            trace = self.comparison.write(Path(room) / "sequence")
            try:
                for walks in ("every:5", "every:7,kind=all"):
                    for model in NAMES:
                        assert_equal(trace, model, walks)
            except AssertionError:
                self.comparison.write(FAILURES / type(self).__name__)
                raise


def assert_equal(trace: Path, model: str, walks: str) -> None:
    native, frames = (
        rr.replay(trace, model, walks=walks, visits=True, backend=backend)
        for backend in ("native", "frames")
    )
    derived = [name for name in frames.walks.columns if not frames.walks[name].null_count()]
    assert {"visits", "hits", "useless_other", "misses", "stopped"} <= {*derived}
    assert frames.walks.select(derived).equals(native.walks.select(derived)), f"{model} {walks}"
    assert frames.visits.drop("pid").equals(native.visits.drop("pid")), f"{model} {walks}"


class TestFrames(Framed.TestCase):
    settings = settings(
        stateful_step_count=50,
        max_examples=12 * max(1, MORE),
        deadline=None,
        derandomize=not MORE,
        database=None,
        report_multiple_bugs=False,
        print_blob=False,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
