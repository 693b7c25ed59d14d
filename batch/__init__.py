# SPDX-License-Identifier: GPL-2.0-only
"""Many at once: every trace of a corpus under every model."""
