# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios: short stories of what processes do with their memory, as text (docs/scenarios.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rmapreplay.traces.scenarios.bundled import find, library
    from rmapreplay.traces.scenarios.errors import ScenarioError
    from rmapreplay.traces.scenarios.program import to_c
    from rmapreplay.traces.scenarios.scenario import Scenario, parse, read_scenario
    from rmapreplay.traces.scenarios.text import to_text

_HOMES = {
    "Scenario": "scenario",
    "ScenarioError": "errors",
    "find": "bundled",
    "library": "bundled",
    "parse": "scenario",
    "read_scenario": "scenario",
    "to_c": "program",
    "to_text": "text",
}

__all__ = [
    "Scenario",
    "ScenarioError",
    "find",
    "library",
    "parse",
    "read_scenario",
    "to_c",
    "to_text",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
