# SPDX-License-Identifier: GPL-2.0-only
"""What lives at one moment of a replay."""
