# SPDX-License-Identifier: GPL-2.0-only
"""A replay against the kernel's own answers: walk by walk, object by object, VMA by VMA.

docs/check.md says what is compared, how, and what each key of the summary means.
"""

from __future__ import annotations

from rmapreplay.replay.check.result import Check, check

__all__ = ["Check", "check"]
