# SPDX-License-Identifier: GPL-2.0-only
"""Models in Python whose callbacks numba compiles: they fill the same table as a library in C.

rmap_model.h says what each callback is for and what it returns; templates/numba_model.py is a model
to begin with. Needs numba, and numpy with it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import numpy as np

from rmapreplay import _native
from rmapreplay.rmap_models.base import Counter, LockClass

# What they say of their types is not meant for their users.
numba: Any = import_module("numba")
types: Any = import_module("numba.types")
intrinsic: Any = import_module("numba.extending").intrinsic

COST_CLASSES: Final = ("step", "lookup", "lock", "refcount", "link", "other")
"""enum rmap_cost_class."""

PAGE_SHIFT: Final = 12


def _structure(tag: str, /, **fields: Any) -> type[ctypes.Structure]:
    return type(tag, (ctypes.Structure,), {"_fields_": list(fields.items())})


# As in rmap_model.h; pointers are numbers, which numba takes for the same.
_POINTER, _U32, _U64, _TEXT = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_char_p

Vma: Final = _structure(
    "rmap_vma",
    **dict.fromkeys(("vma", "start", "end", "anon_pgoff", "flags"), _U64),
    **dict.fromkeys(("anon_vma", "anon_vma_chain", "mm_rmap"), _POINTER),
    mm=_U32,
    file=_U32,
)
Mm: Final = _structure("rmap_mm", rmap=_POINTER, mm=_U32, pid=ctypes.c_int32)
Walk: Final = _structure(
    "rmap_walk",
    counters=_POINTER,
    index=_U64,
    **dict.fromkeys(("nr", "mapcount", "home", "exclusive", "found"), _U32),
)
Live: Final = _structure(
    "rmap_live",
    mms=_POINTER,
    mm_count=ctypes.c_size_t,
    homes=_POINTER,
    folios=_POINTER,
    home_count=ctypes.c_size_t,
)
# The functions that follow are called by their names in `machine`.
Machine: Final = _structure(
    "rmap_machine", abi_version=_U32, struct_size=_U32, kernel=_U32, counters=_POINTER
)
ObjectKind: Final = _structure("rmap_object_kind", name=_TEXT, bytes=_U32)
CounterKind: Final = _structure("rmap_counter", name=_TEXT, cost=_U32, doc=_TEXT, lock=_TEXT)
LockKind: Final = _structure("rmap_lock_class", name=_TEXT, type=_TEXT, covers=_TEXT)

_STATE, _I32 = types.uint64, types.int32
_VMA, _MM, _WALK, _LIVE, _MACHINE, _HOME = (
    types.CPointer(numba.from_dtype(np.dtype(kind)))
    for kind in (Vma, Mm, Walk, Live, Machine, np.uint32)
)

SIGNATURES: Final[dict[str, Any]] = {
    "init": _I32(_MACHINE, types.uint64, types.CPointer(types.uint64)),
    "exit": types.void(_STATE),
    "mm_init": _I32(_STATE, _MM),
    "mm_fork_begin": _I32(_STATE, _MM, _MM),
    "mm_fork_end": _I32(_STATE, _MM, _MM),
    "mm_exit": _I32(_STATE, _MM),
    "anon_vma_prepare": _I32(_STATE, _VMA),
    "anon_vma_clone": _I32(_STATE, _VMA, _VMA, types.uint32),
    "anon_vma_fork": _I32(_STATE, _VMA, _VMA),
    "unlink_anon_vmas": _I32(_STATE, _VMA),
    "pre_update_vma": _I32(_STATE, _VMA),
    "post_update_vma": _I32(_STATE, _VMA),
    "vma_is_fork_child": _I32(_STATE, _VMA),
    "home": _I32(_STATE, _VMA, _HOME),
    "root_home": _I32(_STATE, _VMA, _HOME),
    "folios_homed": _I32(_STATE, types.uint32, types.uint64),
    "folios_unhomed": _I32(_STATE, types.uint32, types.uint64),
    "rmap_walk": _I32(_STATE, _WALK),
    "page_add_rmap": _I32(_STATE, _HOME, types.uint32, types.uint64),
    "page_remove_rmap": _I32(_STATE, _HOME, types.uint32, types.uint64),
    "page_copied_for_move": _I32(_STATE, types.uint32, types.uint64),
    "validate": _I32(_STATE, _LIVE),
}
"""By callback, in the order of the table. `state`, and other pointers to what the model keeps, are
numbers; vma, mm, walk, live and machine are pointers to records, see record()."""

Ops: Final = _structure(
    "rmap_model_ops",
    abi_version=_U32,
    struct_size=_U32,
    name=_TEXT,
    doc=_TEXT,
    **dict.fromkeys(
        ("params", "objects", "sites", "walk_counters", "op_counters", "locks"), ctypes.c_void_p
    ),
    needs=_U32,
    **dict.fromkeys(SIGNATURES, ctypes.c_void_p),
)


def _machine_function(name: str, *arguments: Any) -> Any:
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, *arguments)
    return prototype(_native.C_MODEL_FUNCTIONS[name])


# The machine's functions, to be called by callbacks. What is a pointer in C is a number here: that
# of the machine, which init() is handed, or of a record, by address_of().
allocated: Final = _machine_function("allocated", _U32, _U64)
freed: Final = _machine_function("freed", _U32, _U64)
find: Final = _machine_function("find", _U64, _POINTER)
find_vma: Final = _machine_function("find_vma", _U32, _U64, _POINTER)
next_vma: Final = _machine_function("next", _U64, _POINTER)
prev_vma: Final = _machine_function("prev", _U64, _POINTER)
visit: Final = _machine_function("visit", _U64)
visit_at: Final = _machine_function("visit_at", _U32, _U64)


def _pointer(_context: Any, address: Any) -> Any:
    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.uint64), generate


def _address_of(_context: Any, pointer: Any) -> Any:
    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        return builder.ptrtoint(arguments[0], ir.IntType(64))

    return types.uint64(pointer), generate


pointer: Final = intrinsic(_pointer)
"""pointer(address), for numba.carray(pointer(record(walk).counters), n, np.uint64)."""
address_of: Final = intrinsic(_address_of)
"""address_of(walk): the number that visit() and the others take for it."""


def _record(pointer: Any) -> Any:
    return numba.carray(pointer, 1)[0]


record: Final = numba.njit(_record)
"""What vma, mm, walk, live or machine points to: record(walk).index."""


class CompiledModel:
    """A model made of functions that numba compiles as they are added with `callback`.

    Args:
        name: a-z, 0-9, _ and -.
        doc: one line.
        objects: bytes of each kind of object, as the kernel allocates it.
        walk_counters, op_counters, locks: as a subclass of RmapModel has them.
        needs_pages, index_is_address: likewise.

    The functions refer to objects and counters by their places, from 0.
    """

    def __init__(
        self,
        name: str,
        doc: str,
        *,
        objects: Mapping[str, int] | None = None,
        walk_counters: Sequence[Counter] = (),
        op_counters: Sequence[Counter] = (),
        locks: Sequence[LockClass] = (),
        needs_pages: bool = False,
        index_is_address: bool = False,
    ) -> None:
        self._kept: list[Any] = []  # what the table refers to
        self._ops = Ops(
            abi_version=_native.C_MODEL_ABI_VERSION,
            struct_size=ctypes.sizeof(Ops),
            name=name.encode(),
            doc=doc.encode(),
            objects=self._array(
                ObjectKind, [(kind.encode(), size) for kind, size in (objects or {}).items()]
            ),
            walk_counters=self._array(CounterKind, [_counter(each) for each in walk_counters]),
            op_counters=self._array(CounterKind, [_counter(each) for each in op_counters]),
            locks=self._array(
                LockKind,
                [(lock.name.encode(), lock.type.encode(), lock.covers.encode()) for lock in locks],
            ),
            needs=needs_pages | index_is_address << 1,
        )
        self.__name__ = name

    @property
    def rmap_model_ops(self) -> int:
        """Where the table is: `struct rmap_model_ops`."""
        return ctypes.addressof(self._ops)

    def callback(self, function: Callable[..., Any]) -> Any:
        """Decorates a function whose name is a callback's, or that and an underscore: compiles it
        into the table.

        Raises KeyError if there is no such callback, and what numba raises.
        """
        name = function.__name__.rstrip("_")
        compiled = numba.cfunc(SIGNATURES[name])(function)
        self._kept.append(compiled)
        setattr(self._ops, name, compiled.address)
        return compiled

    def _array(self, kind: type[ctypes.Structure], items: Sequence[Any]) -> Any:
        array = (kind * (len(items) + 1))(*items)  # the last one has no name
        self._kept.append(array)
        return ctypes.addressof(array)


def _counter(counter: Counter) -> tuple[Any, ...]:
    lock = counter.lock.encode() or None
    return counter.name.encode(), COST_CLASSES.index(counter.cost), counter.doc.encode(), lock
