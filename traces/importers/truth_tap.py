# SPDX-License-Identifier: GPL-2.0-only
"""A parser that fills the answer key by the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.truth import TruthWriter

_BATCH_ROWS: Final = 1 << 16


class TruthTap:
    """A native parser (importers.base.Parser) whose answer key flows off by itself.

    Args:
        parser: the native parser; `truth_ready` counts its rows of the answer key.
        truth: where they go.
        kinds: the kinds of rows it has, and the function of the parser that takes them.
    """

    def __init__(self, parser: Any, truth: TruthWriter, kinds: Mapping[str, str]) -> None:
        self._parser = parser
        self._truth = truth
        self._kinds = kinds

    def feed(self, chunk: bytes, /) -> None:
        self._parser.feed(chunk)
        if self._parser.truth_ready >= _BATCH_ROWS:
            self._drain()

    def finish(self) -> None:
        self._parser.finish()
        self._drain()

    def take(self) -> Any:
        return self._parser.take()

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self._parser.stats()
        return stats

    def adopt(
        self, pid: int, tids: list[int], mm_of: int, shm: list[tuple[int, int]], compat: bool, /
    ) -> None:
        self._adopting().adopt(pid, tids, mm_of, shm, compat)

    def first_file(self, file: int, /) -> None:
        self._adopting().first_file(file)

    def _adopting(self) -> Any:
        if not hasattr(self._parser, "adopt"):
            raise RmapReplayError("a capture of this kind cannot begin in the middle")
        return self._parser

    @property
    def ready(self) -> int:
        return int(self._parser.ready)

    @property
    def rows(self) -> int:
        return int(self._parser.rows)

    @property
    def first_time(self) -> int:
        return int(self._parser.first_time)

    @property
    def last_time(self) -> int:
        return int(self._parser.last_time)

    def _drain(self) -> None:
        for kind, take in self._kinds.items():
            self._truth.append(kind, getattr(self._parser, take)())
