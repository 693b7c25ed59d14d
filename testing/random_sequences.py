# SPDX-License-Identifier: GPL-2.0-only
"""Looks for a random sequence for which a model goes wrong."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

from rmapreplay.replay.specs import ModelSpec
from rmapreplay.testing.naive import Naive
from rmapreplay.testing.operations import Operations
from rmapreplay.testing.rows import Row

STEPS = 40
"""Calls of one sequence."""

SHRINKING = 5.0
"""Seconds spent on a smaller sequence that fails as well."""


@dataclass
class Searched:
    """What came of a search.

    Attributes:
        sequences: that were tried.
        rows, metadata: of the shortest that failed, if one did.
        text: what it failed with.
    """

    sequences: int = 0
    rows: Sequence[Row] = ()
    metadata: dict[str, Any] | None = None
    text: str = ""


class _TimeIsOverError(Exception):
    pass


def search(
    spec: ModelSpec,
    kernels: Sequence[str],
    *,
    sequences: int,
    seconds: float,
    index_is_address: bool = False,
    randomise: bool = False,
    journal: Path | None = None,
) -> Searched:
    """Hold a model against the naive truth over so many random sequences, or as many as there is
    time for. They are the same each time, unless `randomise` is set.

    journal: a file for the rows in progress, for whoever is there when the model is not any more.
    """
    searched = Searched()
    deadline = [time.monotonic() + seconds]

    class Machine(Operations):
        models = (spec,)

        def truth(self) -> Naive:
            return Naive(index_is_address=index_is_address)

        def begin(self, kernel: str, teardown: str, every_page: bool) -> None:
            if time.monotonic() > deadline[0]:
                raise _TimeIsOverError
            if searched.metadata is None:
                searched.sequences += 1
            super().begin(kernel, teardown, every_page)

        def fed(self, rows: Sequence[Row], metadata: dict[str, Any]) -> None:
            if journal:
                journal.write_bytes(pickle.dumps((list(rows), metadata)))

        def report(self, error: Exception) -> None:
            if searched.metadata is None:
                deadline[0] = time.monotonic() + SHRINKING
            if searched.metadata is None or len(self.comparison.rows) < len(searched.rows):
                searched.rows = list(self.comparison.rows)
                searched.metadata = dict(self.comparison.metadata)
                searched.text = " ".join(" ".join(str(error).splitlines()[:2]).split())

    Machine.kernels = tuple(kernels)
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=max(1, sequences),
                stateful_step_count=STEPS,
                deadline=None,
                derandomize=not randomise,
                database=None,
                report_multiple_bugs=False,
                print_blob=False,
                verbosity=Verbosity.quiet,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except _TimeIsOverError:
        pass
    except Exception:
        # Once a failure is known the time may end in the middle of shrinking it, which looks to
        # hypothesis like a test that cannot make up its mind.
        if searched.metadata is None:
            raise
    return searched
