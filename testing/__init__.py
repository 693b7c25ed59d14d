# SPDX-License-Identifier: GPL-2.0-only
"""Tells whether a model of the reverse map is right.

check_model() does all of it and gives a Report; conformance_cases() and check_case() are for
pytest.
"""

from __future__ import annotations

from rmapreplay.testing.checker import check_case, check_model
from rmapreplay.testing.report import Checked, Finding, Report
from rmapreplay.testing.scenarios import Case, conformance_cases

__all__ = [
    "Case",
    "Checked",
    "Finding",
    "Report",
    "check_case",
    "check_model",
    "conformance_cases",
]
