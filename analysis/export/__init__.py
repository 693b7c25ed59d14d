# SPDX-License-Identifier: GPL-2.0-only
"""A replay for other programs to show."""
