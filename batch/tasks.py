# SPDX-License-Identifier: GPL-2.0-only
"""Tasks: one trace under one model, and all that its result depends on."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from rmapreplay.replay.specs import ModelSpec
from rmapreplay.traces.errors import RmapReplayError

TABLES: Final = ("walks", "operations", "memory", "misses")
"""The tables of a result."""


@dataclass(frozen=True)
class TraceFile:
    """A trace to replay: its name in the corpus, its path or URL, and what is there."""

    name: str
    place: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Model:
    """A model to replay under.

    Attributes:
        label: the text of its spec.
        sha256: of the file that it is written in, if it is not built in.
        file: that file, if the spec gives it by its path.
    """

    label: str
    sha256: str | None
    file: Path | None


@dataclass(frozen=True)
class Task:
    """One trace under one model."""

    trace: TraceFile
    model: Model
    walks: str
    program: dict[str, str]

    @property
    def key(self) -> tuple[str, str]:
        return self.trace.name, self.model.label

    def identity(self) -> dict[str, Any]:
        """All that the bytes of the result depend on. Two tasks of one identity have one result."""
        return {
            "trace": {
                "name": self.trace.name,
                "sha256": self.trace.sha256,
                "bytes": self.trace.bytes,
            },
            "model": {"label": self.model.label, "sha256": self.model.sha256},
            "parameters": {"walks": self.walks},
            "program": self.program,
        }


@dataclass(frozen=True)
class Failure:
    """Why a task has no result.

    Attributes:
        kind: the name of the error's class, or "Crash" if the process that replayed it is gone.
        message: one line.
        event: row of the trace that the model failed at, where there is one.
    """

    trace: str
    model: str
    kind: str
    message: str
    event: int | None = None


@dataclass(frozen=True)
class Finished:
    """A task that came to its end.

    Attributes:
        outcome: its record (see `records.py`), or why there is none.
        files: where its tables are, by name.
        timing: what it took, and on which host.
        directory: what is not needed when the tables have been taken.
    """

    task: Task
    outcome: dict[str, Any] | Failure
    files: dict[str, Path]
    timing: dict[str, Any]
    directory: Path | None = None


def parse_models(texts: Sequence[str]) -> list[Model]:
    """Models by their specs, as `--model` takes them. Raises ModelError if one cannot be had,
    RmapReplayError if none or one twice is given."""
    if not texts:
        raise RmapReplayError("no models are given")
    models: dict[str, Model] = {}
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(
                f"a batch takes models by their specs, as text (file.py:Class), not {text!r}: "
                "they are replayed in other processes"
            )
        if text in models:
            raise RmapReplayError(f"model {text} is given twice")
        models[text] = parse_model(text)
    return list(models.values())


def parse_model(text: str) -> Model:
    """Raises ModelError as ModelSpec.parse() does."""
    spec = ModelSpec.parse(text)
    given = Path(text.partition(":")[0])
    file = _file_of(spec.source)
    return Model(
        text,
        None if file is None else hashlib.sha256(file.read_bytes()).hexdigest(),
        given if given.suffix in (".py", ".so") else None,
    )


def _file_of(source: Any) -> Path | None:
    """The file that a model is written in, if it is not built in."""
    if isinstance(source, str):
        return None
    if isinstance(source, Path):
        return source
    module = sys.modules.get(getattr(source, "__module__", type(source).__module__))
    file = getattr(module, "__file__", None)
    return Path(file) if file else None


def file_name(key: str, text: str) -> str:
    """`key=text`, where text may be anything, as the name of a file: the way Hive and those who
    read its partitions write it."""
    escaped = quote(text, safe=" ,+@()")
    if len(escaped) > 180:  # of the 255 bytes that a name may have
        escaped = f"{escaped[:160]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return f"{key}={escaped}"


def place_of(table: str, trace: str, model: str, suffix: str = ".parquet") -> str:
    """Where in a batch's directory the table of a trace under a model is."""
    return f"{table}/{file_name('trace', trace)}/{file_name('model', model)}{suffix}"
