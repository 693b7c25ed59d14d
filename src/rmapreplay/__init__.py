# SPDX-License-Identifier: GPL-2.0-only
"""Replay what processes do with their memory under models of the Linux anonymous reverse map.

import rmapreplay as rr
trace = rr.read_trace("redis.parquet")
result = rr.replay(trace, ["anon_vma", "cow"])
result.walks.group_by("model").agg(pl.col("visits").mean())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Not lazy like the rest, though light: importing a folder of that name later would hide them.
from rmapreplay.batch.run import batch
from rmapreplay.replay.result import Result, replay

if TYPE_CHECKING:
    from rmapreplay.analysis.compare.comparison import Comparison, compare
    from rmapreplay.analysis.compare.divergence import Divergence, first_divergence
    from rmapreplay.analysis.compare.shrink import Shrunk, shrink_divergence
    from rmapreplay.analysis.estimates import CostModel, estimate, read_cost_model
    from rmapreplay.analysis.explain.explanation import Explanation, explain
    from rmapreplay.analysis.export.folded import export_folded
    from rmapreplay.analysis.export.perfetto import export_perfetto
    from rmapreplay.analysis.inspect.inspection import Inspection, inspect
    from rmapreplay.analysis.report.document import Report, report
    from rmapreplay.batch.dataset import BatchResult, read_batch
    from rmapreplay.replay.check import Check, check
    from rmapreplay.replay.timeline import Timeline, read_timeline, timeline
    from rmapreplay.rmap_models import include_dir, models
    from rmapreplay.rmap_models.base import (
        Counter,
        Live,
        LockClass,
        Machine,
        Param,
        RmapModel,
        Vma,
        Walk,
    )
    from rmapreplay.rmap_models.registry import register
    from rmapreplay.traces.capture.session import CaptureOptions, attach, capture
    from rmapreplay.traces.errors import (
        CaptureError,
        InvariantError,
        ModelError,
        RmapReplayError,
        TraceFormatError,
    )
    from rmapreplay.traces.reader import Trace, read_trace
    from rmapreplay.traces.scenarios import Scenario, ScenarioError, read_scenario

__version__ = "0.1.0"

# Loaded on first use: the command line must not wait for pyarrow and polars to print its help.
_HOMES = {
    "BatchResult": "rmapreplay.batch.dataset",
    "CaptureError": "rmapreplay.traces.errors",
    "CaptureOptions": "rmapreplay.traces.capture.session",
    "Check": "rmapreplay.replay.check",
    "Comparison": "rmapreplay.analysis.compare.comparison",
    "CostModel": "rmapreplay.analysis.estimates",
    "Counter": "rmapreplay.rmap_models.base",
    "Divergence": "rmapreplay.analysis.compare.divergence",
    "Explanation": "rmapreplay.analysis.explain.explanation",
    "Inspection": "rmapreplay.analysis.inspect.inspection",
    "InvariantError": "rmapreplay.traces.errors",
    "Live": "rmapreplay.rmap_models.base",
    "LockClass": "rmapreplay.rmap_models.base",
    "Machine": "rmapreplay.rmap_models.base",
    "ModelError": "rmapreplay.traces.errors",
    "Param": "rmapreplay.rmap_models.base",
    "Report": "rmapreplay.analysis.report.document",
    "RmapModel": "rmapreplay.rmap_models.base",
    "RmapReplayError": "rmapreplay.traces.errors",
    "Scenario": "rmapreplay.traces.scenarios",
    "ScenarioError": "rmapreplay.traces.scenarios",
    "Shrunk": "rmapreplay.analysis.compare.shrink",
    "Timeline": "rmapreplay.replay.timeline",
    "Trace": "rmapreplay.traces.reader",
    "TraceFormatError": "rmapreplay.traces.errors",
    "Vma": "rmapreplay.rmap_models.base",
    "Walk": "rmapreplay.rmap_models.base",
    "attach": "rmapreplay.traces.capture.session",
    "capture": "rmapreplay.traces.capture.session",
    "check": "rmapreplay.replay.check",
    "compare": "rmapreplay.analysis.compare.comparison",
    "estimate": "rmapreplay.analysis.estimates",
    "export_folded": "rmapreplay.analysis.export.folded",
    "export_perfetto": "rmapreplay.analysis.export.perfetto",
    "explain": "rmapreplay.analysis.explain.explanation",
    "first_divergence": "rmapreplay.analysis.compare.divergence",
    "include_dir": "rmapreplay.rmap_models",
    "inspect": "rmapreplay.analysis.inspect.inspection",
    "models": "rmapreplay.rmap_models",
    "read_batch": "rmapreplay.batch.dataset",
    "read_cost_model": "rmapreplay.analysis.estimates",
    "read_scenario": "rmapreplay.traces.scenarios",
    "read_timeline": "rmapreplay.replay.timeline",
    "read_trace": "rmapreplay.traces.reader",
    "register": "rmapreplay.rmap_models.registry",
    "report": "rmapreplay.analysis.report.document",
    "shrink_divergence": "rmapreplay.analysis.compare.shrink",
    "timeline": "rmapreplay.replay.timeline",
}

__all__ = [
    "BatchResult",
    "CaptureError",
    "CaptureOptions",
    "Check",
    "Comparison",
    "CostModel",
    "Counter",
    "Divergence",
    "Explanation",
    "Inspection",
    "InvariantError",
    "Live",
    "LockClass",
    "Machine",
    "ModelError",
    "Param",
    "Report",
    "Result",
    "RmapModel",
    "RmapReplayError",
    "Scenario",
    "ScenarioError",
    "Shrunk",
    "Timeline",
    "Trace",
    "TraceFormatError",
    "Vma",
    "Walk",
    "__version__",
    "attach",
    "batch",
    "capture",
    "check",
    "compare",
    "estimate",
    "explain",
    "export_folded",
    "export_perfetto",
    "first_divergence",
    "include_dir",
    "inspect",
    "models",
    "read_batch",
    "read_cost_model",
    "read_scenario",
    "read_timeline",
    "read_trace",
    "register",
    "replay",
    "report",
    "shrink_divergence",
    "timeline",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
