# SPDX-License-Identifier: GPL-2.0-only
"""Models as relations: pure functions from the tables of a timeline to what its walks cost.

A model is a module with `walks` and `visits`. It shares no code with the native model of its name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    import polars as pl

    from rmapreplay.rmap_models.frames.tables import Timeline

NAMES: Final = ("anon_vma", "cow")
"""The models that have this form."""


class FrameModel(Protocol):
    """What the module of a model has."""

    @property
    def COUNTERS(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the module
        """Those of the native model's counters of a walk that it derives too."""

    def walks(self, timeline: Timeline) -> pl.LazyFrame:
        """One row per walk, in order: page_walk.SUM_COLUMNS and COUNTERS."""

    def visits(self, timeline: Timeline) -> pl.LazyFrame:
        """One row per VMA offered, by walk and in order: page_walk.VISIT_COLUMNS."""


def frame_model(name: str) -> FrameModel:
    """One of NAMES."""
    return cast("FrameModel", import_module(f"{__name__}.{name}"))
