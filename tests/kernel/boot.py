# SPDX-License-Identifier: GPL-2.0-only
"""QEMU: boots a kernel with an initramfs and keeps what the guest sends."""

from __future__ import annotations

import functools
import os
import selectors
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from errors import HarnessError, UnavailableError
from kernels import Kernel

QEMU = "qemu-system-x86_64"

_COMMAND_LINE = (
    "console=ttyS0 quiet panic=-1 numa_balancing=disable damon_stat.enabled=N zswap.enabled=0"
)
# With one CPU the translator of QEMU 7.2 leaves rubbish in the flags after cmpxchg16b now and then.
# The slab allocator of Linux 6.x lives by that instruction; without it, it takes a lock.
_CPUS = {"kvm": "max", "tcg": "max,cx16=off"}
_KVM_PROBE_SECONDS = 20.0
_KVM_BROKEN = b"KVM internal error"


@dataclass(frozen=True)
class Machine:
    """What the guest gets.

    Attributes:
        accelerator: kvm or tcg.
        memory_mb: of both NUMA nodes together.
        cpus: with more than one, tasks of a workload race, and no trace tells all of their order.
    """

    accelerator: str
    memory_mb: int = 2048
    cpus: int = 1


def require_qemu() -> None:
    """Raises UnavailableError if there is no QEMU here."""
    if not shutil.which(QEMU):
        raise UnavailableError(f"{QEMU} is not installed (Debian: qemu-system-x86)")


@functools.cache
def best_accelerator(kernel: Kernel) -> str:
    """kvm if this kernel comes up under it, else tcg: /dev/kvm may be there and not work."""
    try:
        with open("/dev/kvm", "r+b", buffering=0):
            pass
    except OSError:
        return "tcg"
    # Without a root file system the kernel panics, and with panic=-1 that ends QEMU.
    command = [
        *(QEMU, "-accel", "kvm", "-cpu", "max", "-m", "512", "-nographic", "-no-reboot"),
        *("-net", "none", "-kernel", str(kernel.image), "-append", "console=ttyS0 panic=-1"),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            return "kvm" if _panics_for_want_of_root(process) else "tcg"
        finally:
            process.kill()


def _panics_for_want_of_root(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout
    seen = b""
    deadline = time.monotonic() + _KVM_PROBE_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(deadline - time.monotonic()):
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            seen += chunk
            if _KVM_BROKEN in seen:
                return False
            if b"Kernel panic" in seen:
                return True
    return False


def boot(kernel: Kernel, initramfs: Path, machine: Machine, out: Path, seconds: float) -> None:
    """Boot and wait for the guest to power off.

    `out` gets `console.log`, and `trace.txt` and `archive.tar` as far as the guest sent them.
    Raises HarnessError if it has not powered off after `seconds`.
    """
    half = f"{machine.memory_mb // 2}M"
    command = [
        *(QEMU, "-accel", machine.accelerator, "-cpu", _CPUS[machine.accelerator]),
        *("-smp", str(machine.cpus)),
        *("-m", f"{machine.memory_mb // 2 * 2}M"),
        # Two nodes, so that folios have somewhere to be moved to.
        *("-object", f"memory-backend-ram,id=memory0,size={half}"),
        *("-object", f"memory-backend-ram,id=memory1,size={half}"),
        *("-numa", f"node,nodeid=0,cpus=0-{machine.cpus - 1},memdev=memory0"),
        *("-numa", "node,nodeid=1,memdev=memory1"),
        *("-display", "none", "-no-reboot", "-net", "none", "-monitor", "none"),
        *("-serial", f"file:{out / 'console.log'}"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"file,id=trace,path={out / 'trace.txt'}"),
        *("-device", "virtserialport,chardev=trace,name=trace"),
        *("-chardev", f"file,id=archive,path={out / 'archive.tar'}"),
        *("-device", "virtserialport,chardev=archive,name=archive"),
        *("-kernel", str(kernel.image), "-initrd", str(initramfs), "-append", _COMMAND_LINE),
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HarnessError(
            f"the guest was still running after {seconds:.0f} s; see {out / 'console.log'}"
        ) from error
    if done.returncode != 0:
        raise HarnessError(f"{QEMU}: {done.stderr.strip() or f'exit status {done.returncode}'}")
