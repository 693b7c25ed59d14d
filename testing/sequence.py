# SPDX-License-Identifier: GPL-2.0-only
"""A random sequence in the making: calls, the models they are fed to, and what the rules share."""

from __future__ import annotations

from collections.abc import Sequence as Sequence_
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from rmapreplay.replay.specs import ModelSpec
from rmapreplay.testing.calls import Calls
from rmapreplay.testing.comparison import Comparison
from rmapreplay.testing.naive import Naive, Space
from rmapreplay.testing.rows import Row

ARENA, ARENA_PAGES = 0x7000001E0, 64  # in pages; a boundary of 2 MB lies in its middle
HEAP_PAGES = 24

numbers = st.integers(0, 127)  # taken modulo how many there are
lengths = st.integers(1, 8)


class Sequence(RuleBasedStateMachine):
    """What the rules share.

    Class attributes, for whoever runs it:
        models: specs of the models.
    """

    models: Sequence_[str | ModelSpec] = ()

    def begin(self, kernel: str, teardown: str, every_page: bool) -> None:
        """Set up, with one process."""
        self.naive = self.truth()
        self.comparison = Comparison(
            self.models, kernel, teardown, self.naive, every_page=every_page,
            on_rows=self.fed, on_failure=self.report,
        )  # fmt: skip
        self.calls = Calls(self.naive, self.comparison, teardown)
        self.kernel = tuple(int(part) for part in kernel.split("."))
        self.calls.exec()

    def truth(self) -> Naive:
        return Naive()

    def fed(self, rows: Sequence_[Row], metadata: dict[str, Any]) -> None:
        """The rows there are so far, before the last of them are replayed."""

    def report(self, error: Exception) -> None:
        """The sequence, as far as it goes, has shown a failure, which is about to be raised."""

    @invariant()
    def models_agree_with_the_truth(self) -> None:
        self.comparison.check()

    def teardown(self) -> None:
        if hasattr(self, "comparison") and not self.comparison.failed:
            self.calls.end_all()
            self.comparison.check()
            self.comparison.finish()

    def process(self, number: int, *, forking: bool = True) -> int | None:
        """One of the processes; without `forking`, none that waits for its fork row."""
        pids = [pid for pid in self.naive.spaces if forking or pid not in self.calls.copied]
        return pids[number % len(pids)] if pids else None

    def any_process(self, number: int) -> tuple[int, Space]:
        pid = self.process(number)
        assert pid is not None
        return pid, self.naive.spaces[pid]

    def page(self, number: int, pages: list[int]) -> int | None:
        """One of the pages."""
        return pages[number % len(pages)] if pages else None

    def find_free(self, space: Space, near: int, pages: int) -> int | None:
        """A free range of the arena, the first from `near` on if there is one."""
        last = ARENA + ARENA_PAGES - pages
        candidates = [*range(near, last + 1), *range(ARENA, min(near, last + 1))]
        return next((at for at in candidates if space.is_free(at, at + pages)), None)

    def mapped(self, space: Space) -> list[int]:
        """The pages of the arena that are mapped."""
        return sorted(page for page in space.mapped if ARENA <= page < ARENA + ARENA_PAGES)

    def span(self, space: Space, number: int, pages: int) -> tuple[int, int]:
        """A range that begins at one of the mapped pages, or now and then just before it: its
        start, and how many pages."""
        start = self.page(number, self.mapped(space)) or ARENA
        if number % 4 == 3 and start > ARENA:
            start -= 1
        return start, min(pages, ARENA + ARENA_PAGES - start)
