# SPDX-License-Identifier: GPL-2.0-only
"""What can go wrong, as the driver tells it apart."""

from __future__ import annotations


class HarnessError(Exception):
    """The run cannot go on or its result cannot be used; one line says why."""


class UnavailableError(HarnessError):
    """This machine lacks a program, or a package cannot be had."""
