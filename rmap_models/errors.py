# SPDX-License-Identifier: GPL-2.0-only
"""What went wrong in a model's own code, in one line."""

from __future__ import annotations


def last_line(error: BaseException) -> str:
    """The last line of the error's traceback, and where it was raised:
    "ZeroDivisionError: division by zero (mine.py, line 12)"."""
    from rmapreplay import _native

    said = " ".join(str(error).split())
    kind = type(error).__qualname__
    if not isinstance(error, _native.ModelFailure):
        said = f"{kind}: {said}" if said else kind
    if isinstance(error, SyntaxError):
        return said  # which says where
    place = None
    traceback = error.__traceback__
    while traceback:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith("<frozen "):  # the import system
            place = f" ({file}, line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    return said + (place or "")
