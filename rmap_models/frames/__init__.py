# SPDX-License-Identifier: GPL-2.0-only
"""Models as relations: pure functions from the tables of a timeline to what its walks cost."""
