# SPDX-License-Identifier: GPL-2.0-only
"""Capturing what a workload does with its memory; session.py is where a capture is made."""
