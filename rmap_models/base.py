# SPDX-License-Identifier: GPL-2.0-only
"""What a model written in Python is, and what it may ask of the machine.

Subclass RmapModel. The machine calls it at the places where the kernel calls mm/rmap.c, under the
kernel's names. VMAs and address spaces are plain integers, never 0; so are homes, and the words by
which the machine knows whether two VMAs may merge. docs/models.md shows how it is done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

CostClass = Literal["step", "lookup", "lock", "refcount", "link", "other"]
"""What a counter counts, in the words that all models share (docs/metrics.md): step, an entry of an
index read; lookup, a search in an mm's tree of VMAs; lock, a lock taken; refcount, a reference
count changed; link, an entry of an index added, removed or moved; other, what only this model
has."""

CloneFor = Literal["split", "merge_unfaulted", "remap"]
"""Why a VMA's links are cloned (enum vma_operation, mm/vma.h)."""


@dataclass(frozen=True)
class Counter:
    """One of a model's own counters. A lock's counter names its LockClass."""

    name: str
    cost: CostClass
    doc: str
    lock: str = ""


@dataclass(frozen=True)
class LockClass:
    """A kind of lock that the design takes.

    Attributes:
        name: as the kernel's source would have it, "anon_vma->root->rwsem".
        type: rwsem, spinlock or bit_spinlock.
        covers: what one such lock serialises.
    """

    name: str
    type: str
    covers: str


@dataclass(frozen=True)
class Param:
    """A parameter, as `--model name:key=value` gives it.

    Attributes:
        name: its key.
        values: what it may be: alternatives between bars, or free text for people to read.
        initial: what it is unless given.
        doc: what it is for.
    """

    name: str
    values: str
    initial: str
    doc: str


class Vma(Protocol):
    """A VMA as it was when the machine was asked (struct vm_area_struct). Addresses in bytes,
    offsets in pages."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def pgoff(self) -> int:
        """vm_pgoff: offset of `start` in the file."""

    @property
    def anon_pgoff(self) -> int:
        """Offset of `start` in the space of folio->index."""

    @property
    def last_index(self) -> int:
        """Offset of the last page in the space of folio->index."""

    @property
    def flags(self) -> int:
        """vm_flags."""

    @property
    def file(self) -> int:
        """The struct file; 0 if anonymous."""

    @property
    def policy(self) -> int:
        """The mempolicy; 0 is the default one."""

    @property
    def mm(self) -> int: ...
    @property
    def faulted(self) -> bool:
        """Whether it may have anonymous pages: anon_vma_prepare() or anon_vma_fork() was called."""


class Mm(Protocol):
    """An address space (struct mm_struct)."""

    @property
    def pid(self) -> int:
        """The process that first used it; if that is gone, the lowest that does. 0 until the fork
        that makes it is done."""


class Machine(Protocol):
    """What a model may ask of the machine, and where it books what it does. Only during callbacks.

    A number that stands for no VMA or mm, a name that the class does not declare, or more objects
    freed than live ends the replay: ModelError names the callback and the row.
    """

    def vma(self, vma: int) -> Vma: ...
    def mm(self, mm: int) -> Mm: ...
    def mm_of(self, vma: int) -> int:
        """The mm of a VMA: faster than vma(vma).mm."""

    def find_vma(self, mm: int, addr: int) -> int:
        """The first VMA of mm that ends above addr (bytes), or 0: find_vma()."""

    def vmas(self, mm: int, start: int = 0, end: int = ...) -> list[int]:
        """The VMAs of mm that overlap [start, end), in bytes, by address; by default all."""

    def allocated(self, kind: str, n: int = 1) -> None:
        """n objects of this kind were allocated."""

    def freed(self, kind: str, n: int = 1) -> None:
        """n objects of this kind were freed."""

    def count(self, counter: str, n: int = 1) -> None:
        """Adds to one of op_counters, for the operation in progress."""


class Walk(Protocol):
    """One rmap walk in progress. Only during rmap_walk()."""

    @property
    def index(self) -> int:
        """folio->index, in pages."""

    @property
    def nr(self) -> int:
        """Pages of the folio."""

    @property
    def mapcount(self) -> int:
        """Entries of page tables that map it."""

    @property
    def home(self) -> int:
        """Where the folio is homed, as home() or page_add_rmap() said."""

    @property
    def exclusive(self) -> bool:
        """PageAnonExclusive: known to be mapped by one mm only."""

    @property
    def found(self) -> int:
        """Mappings found so far, as entries of page tables."""

    def overlaps(self, vma: int) -> bool:
        """Whether visit() takes this VMA: it is faulted and has a page of the folio."""

    def visit(self, vma: int) -> bool:
        """Offers a VMA that overlaps the folio, none twice. False: the walk is over."""

    def count(self, counter: str, n: int = 1) -> None:
        """Adds to one of walk_counters, for this walk."""


class ModelOps(Protocol):
    """A C model that is no file: `rmap_model_ops` is the address of its `struct rmap_model_ops`
    (rmap_model.h). Whatever it points to must live as long as this object."""

    @property
    def rmap_model_ops(self) -> int: ...


class Live(NamedTuple):
    """What lives, for validate() to recount a model from.

    Attributes:
        mms: in order of creation; their VMAs are machine.vmas(mm).
        homed: folios homed at each home, as the page tables have them.
    """

    mms: list[int]
    homed: dict[int, int]


class RmapModel(ABC):
    """A model of the anonymous reverse map: an event model, called as the machine goes.

    home() and rmap_walk() must be there; the rest has defaults, which cost nothing. The class is
    instantiated once per replay, with the machine, the kernel whose rules are followed ("6.12",
    "6.18" or "7.3") and its parameters as text.

    Attributes:
        name: what it is called in summaries; by default the class's name.
        doc: one line; by default the first of the class's docstring.
        params: parameters that it takes, beside `kernel`.
        objects: bytes of each kind of object, as the kernel would allocate it (at most 7 kinds).
        walk_counters, op_counters: what it counts per walk, and per operation (at most 12 each).
        locks: kinds of lock that it takes.
        needs_pages: page_add_rmap() and page_remove_rmap() are called for every page.
        index_is_address: folio->index is the virtual page, also of memory that was moved: mremap()
            takes pages of one mm along, and copies those that are shared.
    """

    name: ClassVar[str] = ""
    doc: ClassVar[str] = ""
    params: ClassVar[Sequence[Param]] = ()
    objects: ClassVar[Mapping[str, int]] = {}
    walk_counters: ClassVar[Sequence[Counter]] = ()
    op_counters: ClassVar[Sequence[Counter]] = ()
    locks: ClassVar[Sequence[LockClass]] = ()
    needs_pages: ClassVar[bool] = False
    index_is_address: ClassVar[bool] = False

    def __init__(self, machine: Machine, kernel: str, **params: str) -> None:
        self.machine = machine
        self.kernel = kernel

    # ---- mm ----

    def mm_init(self, mm: int) -> None:  # noqa: B027
        """exec, or first sight of an mm."""

    def mm_fork_begin(self, child: int, parent: int) -> None:  # noqa: B027
        """dup_mmap() starts."""

    def mm_fork_end(self, child: int, parent: int) -> None:  # noqa: B027
        """All VMAs and page tables are copied."""

    def mm_exit(self, mm: int) -> None:  # noqa: B027
        """exit_mmap(): its VMAs are gone, and the number stands for nothing from now on."""

    # ---- VMA ----

    def anon_vma_prepare(self, vma: int) -> int:
        """The first anonymous fault in a VMA (__anon_vma_prepare()).

        Returns a number that is not 0 and stands for the VMA's own object: the kernel's word
        vma->anon_vma. Faulted VMAs may merge if these are equal. By default, the mm's number.
        """
        return self.machine.mm_of(vma)

    def anon_vma_fork(self, child: int, parent: int) -> int:
        """fork copies a faulted VMA (anon_vma_fork()). Returns the child's word, as
        anon_vma_prepare() does. By default, the number of the child's mm."""
        return self.machine.mm_of(child)

    def anon_vma_clone(self, dst: int, src: int, why: CloneFor) -> None:  # noqa: B027
        """dst gets src's links, and has its word already (anon_vma_clone()). dst has its final
        range for split and remap, its old one for merge_unfaulted."""

    def unlink_anon_vmas(self, vma: int) -> None:  # noqa: B027
        """A faulted VMA goes (unlink_anon_vmas())."""

    def pre_update_vma(self, vma: int) -> None:  # noqa: B027
        """start, end or offset of a faulted VMA are about to change."""

    def post_update_vma(self, vma: int) -> None:  # noqa: B027
        """They have changed."""

    def vma_is_fork_child(self, vma: int) -> bool:
        """Whether a faulted VMA must not be merged with an unfaulted one. By default, False."""
        return False

    # ---- folio ----

    @abstractmethod
    def home(self, vma: int) -> int:
        """Where a new page of this faulted VMA is homed (folio->mapping): a number below 2**32.

        It must stay the same as the VMA is split, merged, resized and moved. So it is asked for
        once per VMA; replays that verify ask again and compare.
        """

    def root_home(self, vma: int) -> int:
        """Where a page of this faulted VMA is homed that comes from swap and that relatives may
        come to map too (__folio_set_anon()). By default, home()."""
        return self.home(vma)

    def folios_homed(self, home: int, n: int) -> None:  # noqa: B027
        """n folios came to be homed there."""

    def folios_unhomed(self, home: int, n: int) -> None:  # noqa: B027
        """n folios are no longer homed there: freed, or homed elsewhere."""

    def page_add_rmap(self, home: int, mm: int, addr: int) -> int:
        """Only if needs_pages: an entry of mm at addr (bytes) came to map a folio of this home.

        Returns the folio's home from now on: it starts as what home() said when the folio was new,
        and is then a word per folio. folios_homed() is not called.
        """
        return home

    def page_remove_rmap(self, home: int, mm: int, addr: int) -> int:
        """Only if needs_pages: an entry of mm at addr no longer maps a folio of this home. Returns
        the folio's home from now on. A move is a removal, then an addition."""
        return home

    def page_copied_for_move(self, mm: int, addr: int) -> None:  # noqa: B027
        """Only if index_is_address: mremap() had to copy a shared page, now at addr (bytes)."""

    # ---- walk ----

    @abstractmethod
    def rmap_walk(self, walk: Walk) -> None:
        """Offers every VMA that may map the folio, in the design's order, until visit() says that
        the walk is over (rmap_walk_anon())."""

    # ---- for verification ----

    def validate(self, live: Live) -> None:  # noqa: B027
        """Recounts every object, by assert statements. Called between events by replays that
        verify; an AssertionError is a broken invariant."""
