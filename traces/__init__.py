# SPDX-License-Identifier: GPL-2.0-only
"""What happened: the trace format, reading and writing it, and importing captures."""
