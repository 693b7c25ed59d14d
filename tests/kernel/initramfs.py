# SPDX-License-Identifier: GPL-2.0-only
"""The guest's file tree, and its archive as the kernel unpacks it at boot: cpio's `newc` format."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from errors import HarnessError

_ELF = b"\x7fELF"
# Links to what is below /usr; packages and hosts may name files by either path.
_MERGED = ("bin", "sbin", "lib", "lib64")
# Of an installed package, what no program reads to run.
_NOT_NEEDED = re.compile(r"usr/share/(doc|man|locale|info|lintian|bug|icons|pixmaps)(/|$)")


class Tree:
    """Files to be, by absolute path in the guest; directories come with what is in them."""

    def __init__(self) -> None:
        self._nodes: dict[str, tuple[int, bytes, tuple[int, int]]] = {}
        # Before it has mounted anything, init's standard streams are the console.
        self._node("/dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        for name in _MERGED:
            self._node(f"/usr/{name}", stat.S_IFDIR | 0o755)
            self.link(f"/{name}", f"usr/{name}")

    def add(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._node(path, stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        self._node(path, stat.S_IFLNK | 0o777, target.encode())

    def add_host(self, path: Path) -> None:
        """A file or directory of this machine under its own path, symbolic links and all, and what
        its programs need: shared libraries, a script's interpreter."""
        path = Path(os.path.abspath(path))
        if not path.exists():
            raise HarnessError(f"{path}: no such file on this machine")
        for parent in path.parents[::-1]:
            if parent.is_symlink():
                self._copy(parent, str(parent))
        if path.is_symlink():
            self._copy(path, str(path))
            target = path.readlink()
            self.add_host(target if target.is_absolute() else path.parent / target)
        elif path.is_dir():
            for below in sorted(path.iterdir()):
                if below.name != "__pycache__":
                    self.add_host(below)
        elif str(path) not in self._nodes:
            self._copy(path, str(path))
            for needed in (*needed_libraries(path), *_interpreter(path)):
                self.add_host(needed)

    def add_root(self, root: Path) -> None:
        """All of an unpacked package, at the place it is meant for."""
        for file in sorted(root.rglob("*")):
            where = file.relative_to(root).as_posix()
            if not _NOT_NEEDED.match(where) and (file.is_symlink() or not file.is_dir()):
                self._copy(file, f"/{where}")

    def write(self, file: BinaryIO) -> None:
        for number, (path, (mode, data, device)) in enumerate(sorted(self._nodes.items()), 1):
            _write_entry(file, path.lstrip("/"), number, mode, data, device)
        _write_entry(file, "TRAILER!!!", 0, 0, b"", (0, 0))

    def _copy(self, file: Path, where: str) -> None:
        if file.is_symlink():
            self.link(where, str(file.readlink()))
        elif file.is_file():
            executable = 0o755 if os.access(file, os.X_OK) else 0o644
            self.add(where, file.read_bytes(), executable)

    def _node(
        self, path: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        first, _, rest = path.lstrip("/").partition("/")
        if first in _MERGED and rest:
            path = f"/usr/{first}/{rest}"
        for parent in PurePosixPath(path).parents:
            self._nodes.setdefault(str(parent), (stat.S_IFDIR | 0o755, b"", (0, 0)))
        if not stat.S_ISLNK(mode) or not stat.S_ISDIR(self._nodes.get(path, (0,))[0]):
            self._nodes[path] = (mode, data, device)


def needed_libraries(file: Path) -> list[Path]:
    """The shared libraries of a program, directly or not; none for other files."""
    with file.open("rb") as opened:
        if opened.read(4) != _ELF:
            return []
    try:
        listing = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise HarnessError("ldd is not installed") from error
    missing = re.search(r"^\s*(\S+) => not found", listing.stdout, re.MULTILINE)
    if missing:
        raise HarnessError(f"{file}: needs {missing[1]}, which this machine lacks")
    return [Path(name) for name in re.findall(r"(/\S+) \(0x", listing.stdout)]


def _interpreter(file: Path) -> list[Path]:
    with file.open("rb") as opened:
        found = re.match(rb"#! *(/\S+)", opened.read(256))
    # Of a tree of files, many are scripts that nothing will run.
    return [Path(os.fsdecode(found[1]))] if found and Path(os.fsdecode(found[1])).exists() else []


def _write_entry(
    file: BinaryIO, name: str, inode: int, mode: int, data: bytes, device: tuple[int, int]
) -> None:
    encoded = name.encode() + b"\0"
    numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    for part in (header + encoded, data):
        file.write(part + b"\0" * (-len(part) % 4))
