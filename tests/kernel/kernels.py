# SPDX-License-Identifier: GPL-2.0-only
"""Kernels to boot: one's own image, or a Debian package's; and those of its modules that the guest
needs."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from errors import HarnessError
from packages import Archive

_PACKAGE = re.compile(r"linux-(image|binary|modules)-\d.*")


@dataclass(frozen=True)
class Kernel:
    """A bootable kernel.

    Attributes:
        release: as `uname -r` has it.
        image: a bzImage.
        modules: a directory with its modules somewhere below, if it has any.
    """

    release: str
    image: Path
    modules: Path | None

    def load_order(self, names: Iterable[str]) -> list[tuple[str, bytes]]:
        """The named modules and what they depend on, uncompressed, in the order to load them.

        Modules that do not exist are left out: they are built in, or the kernel has none such.
        """
        files = {}
        for file in self.modules.rglob("*.ko*") if self.modules else ():
            files[file.name.partition(".ko")[0].replace("-", "_")] = file
        loaded: dict[str, bytes] = {}

        def load(name: str) -> None:
            if name in loaded or name not in files:
                return
            data = _uncompressed(files[name])
            depends = re.search(rb"\0depends=([^\0]*)\0", data)
            for other in depends[1].decode().split(",") if depends else ():
                load(other.replace("-", "_"))
            loaded[name] = data

        for name in names:
            load(name)
        return list(loaded.items())


def own_kernel(image: Path, modules: Path | None) -> Kernel:
    """A kernel that was built here. Raises HarnessError if `image` is no bzImage."""
    try:
        return Kernel(release_of(image), image, modules)
    except OSError as error:
        raise HarnessError(f"{image}: {error.strerror}") from error


def debian_kernel(package: str, archive: Archive) -> Kernel:
    """The kernel of a package, or of the newest version that a metapackage depends on.

    Raises UnavailableError if it cannot be had.
    """
    wanted = [package]
    for name in wanted:
        wanted += [n for n in archive.depends(name) if _PACKAGE.fullmatch(n) and n not in wanted]
    roots = [archive.unpack(name) for name in wanted if _PACKAGE.fullmatch(name)]
    images = [file for root in roots for file in root.rglob("vmlinuz*") if file.is_file()]
    if not images:
        raise HarnessError(f"no kernel image in {', '.join(wanted)}")
    modules = [root for root in roots if next(root.rglob("*.ko*"), None)]
    return Kernel(release_of(images[0]), images[0], modules[0] if modules else None)


def release_of(image: Path) -> str:
    """The release that a bzImage says it is of; see the kernel's x86 boot protocol."""
    with image.open("rb") as file:
        setup = file.read(1 << 16)
    if setup[0x202:0x206] != b"HdrS":
        raise HarnessError(f"{image}: not a bzImage")
    offset = int.from_bytes(setup[0x20E:0x210], "little") + 0x200
    return setup[offset : setup.index(0, offset)].decode().split()[0]


def _uncompressed(file: Path) -> bytes:
    data = file.read_bytes()
    match file.suffix:
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
        case ".bz2":
            return bz2.decompress(data)
        case ".zst":
            return subprocess.run(
                ["zstd", "-dcq"], input=data, capture_output=True, check=True
            ).stdout
        case _:
            return data
