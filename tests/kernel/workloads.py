# SPDX-License-Identifier: GPL-2.0-only
"""What is run in the guest: our set of workloads, and any command of one's own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compiler import build_library, build_program
from errors import HarnessError
from initramfs import Tree, needed_libraries
from packages import Archive

SOURCES: Final = Path(__file__).parent / "workloads"
_GUEST: Final = "/workload"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One run of the guest.

    Attributes:
        name: of the directory with its results.
        about: a line for people.
        source: below workloads/: C to build, or a script for the interpreter in `argv`.
        argv: the command. A program built from `source` takes it as its arguments instead, and a
            script comes after it.
        libraries: so many shared libraries are built of library.c and named as arguments.
        host_files: files and directories of this machine that the guest needs; with programs go
            the shared libraries they need.
        packages: Debian packages that it needs, with their libraries.
        thp: transparent_hugepage/enabled.
        folio_sizes: sizes of anonymous folios in between that are switched on, such as "64kB".
        swap_mb: size of the zram device to swap to; 0: none.
        timer_ms: a burst of walks that often without being asked; 0: never.
        trigger: what those bursts do, see guest/guest.h.
        limit_s: it is killed after that.
        buffer_mb: trace buffer per CPU.
    """

    name: str
    about: str
    source: str = ""
    argv: tuple[str, ...] = ()
    libraries: int = 0
    host_files: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    thp: str = "never"
    folio_sizes: tuple[str, ...] = ()
    swap_mb: int = 0
    timer_ms: int = 0
    trigger: str = "migrate"
    limit_s: int = 180
    buffer_mb: int = 192

    @property
    def command(self) -> tuple[str, ...]:
        """argv in the guest."""
        if not self.source:
            return self.argv
        own = f"{_GUEST}/{self.source.removesuffix('.c')}"
        if not self.source.endswith(".c"):
            return (*self.argv, own)
        return (own, *self.argv, *(self._library(i) for i in range(self.libraries)))

    def config(self) -> str:
        """The launcher's settings; see guest/config.c."""
        lines = [
            f"thp {self.thp}",
            *(f"folio_size {size}" for size in self.folio_sizes),
            f"swap_mb {self.swap_mb}",
            f"buffer_kb {self.buffer_mb * 1024}",
            f"timer_ms {self.timer_ms}",
            f"limit_s {self.limit_s}",
            f"trigger {self.trigger}",
            *(f"arg {word}" for word in self.command),
        ]
        return "\n".join(lines) + "\n"

    def install(self, tree: Tree, build: Path, archive: Archive) -> None:
        """Put what the guest needs to run it into `tree`; what is compiled goes to `build`."""
        if self.source.endswith(".c"):
            program = build_program([SOURCES / self.source], build, static=self.libraries == 0)
            tree.add(self.command[0], program.read_bytes(), 0o755)
            for needed in needed_libraries(program):
                tree.add_host(needed)
        elif self.source:
            tree.add(self.command[-1], (SOURCES / self.source).read_bytes(), 0o755)
        for number in range(self.libraries):
            built = build_library(SOURCES / "library.c", build, number)
            tree.add(self._library(number), built.read_bytes(), 0o755)
        for name in self.host_files:
            tree.add_host(Path(shutil.which(name) or name))
        for package in archive.libraries(self.packages):
            tree.add_root(archive.unpack(package))

    def _library(self, number: int) -> str:
        return f"{_GUEST}/library{number}.so"


def _program(name: str, about: str, *argv: str) -> Workload:
    return Workload(name=name, about=about, source=f"{name}.c", argv=argv)


OUR_SET: Final = (
    _program("fork_chain", "parents exit, children fork on: anon_vmas are reused"),
    _program("fork_server", "a warm parent and many children, some of which fork again"),
    _program("mremap_storm", "mappings moved, grown and shrunk before and after forks"),
    _program("mprotect_storm", "mappings split and merged with forks in between"),
    _program("advice", "DONTNEED, FREE, WIPEONFORK, DONTFORK, populating"),
    _program("merges", "holes filled, pieces joined, extended, moved beside each other"),
    _program("guards", "guard regions, mlock, MAP_POPULATE, growing stacks"),
    _program("shared_mm", "vfork, CLONE_VM, threads, and forks by each of them"),
    Workload(
        name="libraries",
        about="many libraries' private file pages, copied and forked",
        source="libraries.c",
        libraries=16,
    ),
    Workload(
        name="thp",
        about="huge pages shared over fork and split in every way",
        source="huge.c",
        argv=("512",),
        thp="always",
        swap_mb=256,
    ),
    Workload(
        name="mthp",
        about="the same with folios of 64 kB",
        source="huge.c",
        argv=("64",),
        folio_sizes=("64kB",),
        swap_mb=256,
    ),
    Workload(
        name="swap",
        about="swap to zram and back: alone, shared, lazily freed, forked while out",
        source="swap.c",
        swap_mb=256,
    ),
    Workload(
        name="shell",
        about="bash: pipelines, subshells, background jobs",
        source="shell.bash",
        argv=("bash",),
        packages=("bash", "coreutils"),
    ),
    Workload(
        name="pool",
        about="python: a pool of forked workers, children that fork",
        source="pool.py",
        argv=("python3.13", "-ESs"),
        packages=("python3.13-minimal", "libpython3.13-minimal", "libpython3.13-stdlib"),
        buffer_mb=384,
    ),
    Workload(
        name="redis",
        about="redis: saves in the background while it is written to, and is reclaimed",
        source="redis.bash",
        argv=("bash",),
        packages=("bash", "coreutils", "grep", "redis-server", "redis-tools"),
        swap_mb=256,
        buffer_mb=384,
    ),
)
SMOKE: Final = ("fork_chain", "mprotect_storm")


def choose(names: Sequence[str]) -> Sequence[Workload]:
    """Workloads of our set by name, in the order given; all of them for none.

    Raises HarnessError for a name that is not in the set.
    """
    by_name = {workload.name: workload for workload in OUR_SET}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise HarnessError(f"no workload {unknown[0]}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names] or OUR_SET
