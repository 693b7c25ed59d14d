# SPDX-License-Identifier: GPL-2.0-only
"""What a scenario is: a short story of calls, with a name and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from rmapreplay.testing.calls import Calls
from rmapreplay.testing.comparison import Comparison, metadata_of
from rmapreplay.testing.naive import Naive
from rmapreplay.testing.rows import Row

KERNELS: Final = ("7.3", "6.18", "6.12")
"""Whose rules there are to follow, newest first."""

X: Final = 0x700000000
"""A page to map things at; a boundary of 2 MB."""
Y: Final = X + 0x1000
Z: Final = X + 0x2000


@dataclass(frozen=True)
class Case:
    """A scenario.

    Attributes:
        name: what it is called in a report.
        about: a sentence.
        script: makes the calls. What lives at its end exits then.
        teardown: which rows ends of address spaces have, one of calls.TEARDOWN.
        metadata: of the trace, beside the kernel and the teardown.
        truth: whether the naive truth knows all that happens.
        kernels: whose rules it can be played by.
    """

    name: str
    about: str
    script: Callable[[Calls], None]
    teardown: str = "at_exit"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    truth: bool = True
    kernels: tuple[str, ...] = KERNELS

    def rows(self, kernel: str) -> tuple[list[Row], dict[str, Any]]:
        """The rows, and the trace's metadata."""
        comparison = Comparison([], kernel, self.teardown, Naive())
        calls = Calls(comparison.naive, comparison, self.teardown)
        self.script(calls)
        calls.end_all()
        return comparison.rows, {**metadata_of(kernel, self.teardown), **self.metadata}

    def compare(self, comparison: Comparison) -> None:
        """Hold the models against the truth after each call, and at the end.

        Raises AssertionError, or ModelError if a model fails.
        """
        calls = Calls(comparison.naive, comparison, self.teardown)
        stepwise = cast("Calls", _Stepwise(calls, comparison.check))
        self.script(stepwise)
        stepwise.end_all()
        comparison.finish()


class _Stepwise:
    """Calls, after each of which something is done."""

    def __init__(self, calls: Calls, step: Callable[[], None]) -> None:
        self._calls = calls
        self._step = step

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._calls, name)
        if not callable(value):
            return value

        def call(*args: Any, **named: Any) -> Any:
            result = value(*args, **named)
            self._step()
            return result

        return call


class Cases:
    """The scenarios of one file."""

    def __init__(self, group: str) -> None:
        self.all: list[Case] = []
        self._group = group

    def __call__(
        self, **options: Any
    ) -> Callable[[Callable[[Calls], None]], Callable[[Calls], None]]:
        """Decorates a script: its name and docstring become the case's. Options are Case's."""

        def add(script: Callable[[Calls], None]) -> Callable[[Calls], None]:
            about = " ".join((script.__doc__ or "").split())
            self.all.append(
                Case(f"{self._group}_{script.__name__.lstrip('_')}", about, script, **options)
            )
            return script

        return add
