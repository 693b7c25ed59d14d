# SPDX-License-Identifier: GPL-2.0-only
"""One walk told step by step."""
