# SPDX-License-Identifier: GPL-2.0-only
"""Models side by side: over whole traces, walk by walk, and the first walk in which they differ."""
