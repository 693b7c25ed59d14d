# SPDX-License-Identifier: GPL-2.0-only
"""What it means: models set side by side, one walk told step by step, reports."""
