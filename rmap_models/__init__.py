# SPDX-License-Identifier: GPL-2.0-only
"""What it costs: the models of the anonymous reverse map.

A native model is one file in `native/`; read `native/model.hpp` first. A model in Python is a
subclass of `RmapModel` in `base.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, cast


class ParamInfo(TypedDict):
    """A parameter of a model; `values` is for people to read, alternatives between bars."""

    name: str
    values: str
    initial: str
    doc: str


class CounterInfo(TypedDict):
    """Something that a model counts.

    cost: in the words that all models share: step, lookup, lock, refcount, link or other
        (docs/metrics.md).
    lock: for cost lock, the LockInfo that it counts; else "".
    """

    name: str
    cost: str
    doc: str
    lock: str


class LockInfo(TypedDict):
    """A kind of lock that the design takes; `covers` is what one such lock serialises."""

    name: str
    type: str
    covers: str


class NeedsInfo(TypedDict):
    """What the design asks of the rest of mm.

    pages: it is told of every page that is mapped and unmapped.
    index_is_address: folio->index is the virtual page, also of memory that was moved.
    """

    pages: bool
    index_is_address: bool


class ModelInfo(TypedDict):
    """What a model is made of.

    objects: bytes of each kind of object, as the kernel allocates it, vm_area_struct first.
    walk_counters, op_counters: what it counts per walk, and per operation.
    """

    name: str
    doc: str
    params: list[ParamInfo]
    objects: dict[str, int]
    locks: list[LockInfo]
    walk_counters: list[CounterInfo]
    op_counters: list[CounterInfo]
    needs: NeedsInfo


def models() -> list[ModelInfo]:
    """The models there are, in the order of their registration: those built in, those registered in
    this process, and those of installed packages. One that cannot be loaded is told in one line on
    standard error."""
    from rmapreplay import _native
    from rmapreplay.rmap_models.registry import installed

    found = cast("list[ModelInfo]", _native.models())
    for name, model in installed().items():
        found.append({**cast("ModelInfo", _native.model_info(model)), "name": name})
    return found


def include_dir() -> Path:
    """The folder that rmap_model.h is in, for the compiler of a model in C."""
    return Path(__file__).parents[1] / "include"
