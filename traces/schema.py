# SPDX-License-Identifier: GPL-2.0-only
"""The columns of a trace; docs/trace-format.md describes what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from rmapreplay import _native

SCHEMA_VERSION: Final = 2
METADATA_KEY: Final = b"rmapreplay"

OP_NAMES: Final[tuple[str, ...]] = _native.op_names()
SOURCE_NAMES: Final[tuple[str, ...]] = _native.source_names()
WALK_KIND_NAMES: Final[tuple[str, ...]] = _native.walk_kind_names()
SPECIAL_NAMES: Final[tuple[str, ...]] = _native.special_names()
NEEDED_COLUMNS: Final[dict[str, tuple[str, ...]]] = _native.needed_columns()
"""Per operation, the columns that are never null; beside time, op, pid and tid."""


def _name() -> pa.DataType:
    return pa.dictionary(pa.uint8(), pa.string())


FILE_SCHEMA: Final = pa.schema(
    [
        pa.field("time", pa.int64(), nullable=False),
        pa.field("op", _name(), nullable=False),
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("tid", pa.int32(), nullable=False),
        pa.field("addr", pa.uint64()),
        pa.field("len", pa.uint64()),
        pa.field("new_addr", pa.uint64()),
        pa.field("new_len", pa.uint64()),
        pa.field("offset", pa.uint64()),
        pa.field("flags", pa.uint64()),
        pa.field("vm_flags", pa.uint64()),
        pa.field("prot", pa.uint32()),
        pa.field("fd", pa.int32()),
        pa.field("file", pa.uint32()),
        pa.field("advice", pa.int32()),
        pa.field("child", pa.int32()),
        pa.field("child_tid", pa.int32()),
        pa.field("error", pa.int32()),
        pa.field("path", pa.dictionary(pa.uint32(), pa.string())),
        pa.field("write", pa.bool_()),
        pa.field("source", _name()),
        pa.field("present", pa.bool_()),
        pa.field("order", pa.uint8()),
        pa.field("kind", _name()),
    ]
)
"""As importers make it and files hold it (dictionary codes may be wider when read back)."""

NAMED_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "op": OP_NAMES,
    "path": SPECIAL_NAMES,
    "source": SOURCE_NAMES,
    "kind": WALK_KIND_NAMES,
}
"""Columns of names, and the lists whose positions the engine knows them by."""

CANONICAL_SCHEMA: Final = pa.schema(
    [
        pa.field("special" if field.name == "path" else field.name, pa.uint8())
        if field.name in NAMED_COLUMNS
        else pa.field(field.name, field.type)
        for field in FILE_SCHEMA
    ]
)
"""As the engine takes it: names are codes, and all paths but the kernel's own names are 0."""

Metadata = dict[str, Any]
"""The JSON object under METADATA_KEY."""


def process_names(metadata: Mapping[str, Any]) -> dict[int, str]:
    """What the trace's author calls processes, by pid, where metadata says so."""
    names = metadata.get("process_names") or {}
    return {int(pid): str(name) for pid, name in names.items()}
