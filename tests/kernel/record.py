# SPDX-License-Identifier: GPL-2.0-only
"""One recording: a workload under the probes in a booted kernel."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
from boot import Machine, boot
from compiler import build_program
from errors import HarnessError
from initramfs import Tree
from kernels import Kernel
from packages import Archive
from workloads import Workload

HERE: Final = Path(__file__).parent
PROBES: Final = HERE.parents[1] / "traces" / "capture" / "tracefs" / "probes.txt"
TRACE: Final = "trace.txt.zst"
AUX: Final = "aux.tar.zst"

_MODULES: Final = ("virtio_pci", "virtio_console")
_BOOT_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Recording:
    """What a guest sent home, as files of `directory`: TRACE, AUX and console.log.

    Attributes:
        bursts: how often the workload's folios were walked.
        missing: probes and calls that this kernel does not have, and why.
    """

    directory: Path
    bursts: int
    missing: tuple[str, ...]


def record(
    workload: Workload, kernel: Kernel, machine: Machine, archive: Archive, build: Path, out: Path
) -> Recording:
    """Boot `kernel`, run `workload`, and leave the recording in `out`.

    `build` takes compiled programs; packages come from `archive`. Raises HarnessError if the guest
    did not get through, the workload failed or was killed, or an event was lost.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kernel-truth-") as temporary:
        raw = Path(temporary)
        initramfs = raw / "initramfs.cpio"
        with initramfs.open("wb") as file:
            _tree(workload, kernel, archive, build).write(file)
        try:
            boot(kernel, initramfs, machine, raw, _BOOT_SECONDS + 3 * workload.limit_s)
        finally:
            if (raw / "console.log").exists():
                (out / "console.log").write_bytes((raw / "console.log").read_bytes())
        files = _archive_members(raw / "archive.tar")
        try:
            _require_good(files, out)
        finally:
            if "probes.txt" in files:
                (out / "probes.txt").write_bytes(files["probes.txt"])
        _compress(raw / "trace.txt", out / TRACE)
        _compress(raw / "archive.tar", out / AUX)
    result = _result(files)
    return Recording(out, int(result["bursts"]), _missing(files["probes.txt"].decode()))


def _missing(report: str) -> tuple[str, ...]:
    """Of the launcher's report on probes: what was refused with nothing in its place."""
    lines = [line.split(" ", 2) for line in report.splitlines()]
    found = {name for kind, name, _ in lines if kind == "probe"}
    return tuple(
        f"{name} ({reason})"
        for kind, name, reason in lines
        if kind == "refused" and name not in found
    )


def build_launcher(build: Path) -> Path:
    """The guest's init."""
    sources = sorted((HERE / "guest").glob("*.c"), key=lambda file: file.stem != "launcher")
    return build_program(sources, build)


def _tree(workload: Workload, kernel: Kernel, archive: Archive, build: Path) -> Tree:
    tree = Tree()
    launcher = build_launcher(build)
    tree.add("/init", launcher.read_bytes(), 0o755)
    tree.add("/truth/events", PROBES.read_bytes())
    tree.add("/truth/config", workload.config().encode())
    modules = (*_MODULES, *(("zram",) if workload.swap_mb else ()))
    for number, (name, data) in enumerate(kernel.load_order(modules)):
        tree.add(f"/truth/modules/{number:02}-{name}.ko", data)
    workload.install(tree, build, archive)
    return tree


def _archive_members(path: Path) -> dict[str, bytes]:
    """By name; what a guest that broke off has sent in full."""
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
            for member in archive:
                file = archive.extractfile(member)
                data = file.read() if file else b""
                if len(data) == member.size:
                    members[member.name] = data
    except (tarfile.TarError, OSError):
        pass
    return members


def _result(files: Mapping[str, bytes]) -> dict[str, str]:
    lines = files["result.txt"].decode(errors="replace").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def _require_good(files: Mapping[str, bytes], out: Path) -> None:
    log = out / "console.log"
    if "result.txt" not in files:
        raise HarnessError(f"the guest sent no result; see {log}")
    result = _result(files)
    if "error" in result:
        raise HarnessError(f"the guest gave up: {result['error']} ({log})")
    if result["killed"] != "0":
        raise HarnessError(f"the workload or what it left behind had to be killed; see {log}")
    if result["lost"] != "0":
        raise HarnessError(
            f"{result['lost']} events did not fit into the trace buffer; make it larger (--buffer)"
        )
    if result["exit"] != "0":
        signal = f", signal {result['signal']}" if result["signal"] != "0" else ""
        raise HarnessError(f"the workload failed: exit status {result['exit']}{signal}; see {log}")


def _compress(source: Path, target: Path) -> None:
    with (
        pa.OSFile(str(source), "rb") as file,
        pa.CompressedOutputStream(str(target), "zstd") as out,
    ):
        while chunk := file.read(1 << 20):
            out.write(chunk)
