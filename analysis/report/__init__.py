# SPDX-License-Identifier: GPL-2.0-only
"""Results as one page that can be sent around."""
