# SPDX-License-Identifier: GPL-2.0-only
"""/init of a guest that runs `rmapreplay capture` itself: sets the machine up as launcher.c does,
and sends the trace home in a tar archive through a virtio-serial port."""

from __future__ import annotations

import ctypes
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

CONFIG = Path("/truth/config.json")
OUT = Path("/truth/out")
MOUNTS = {
    "/proc": "proc",
    "/sys": "sysfs",
    "/dev": "devtmpfs",
    "/sys/kernel/tracing": "tracefs",
    "/sys/fs/cgroup": "cgroup2",
}
THP = Path("/sys/kernel/mm/transparent_hugepage")
SETTINGS = {
    # Nobody but the workload is to move, collapse, write back or read ahead folios.
    "/proc/sys/vm/compaction_proactiveness": "0",
    "/proc/sys/vm/page-cluster": "0",
    f"{THP}/khugepaged/scan_sleep_millisecs": "4000000000",
    f"{THP}/khugepaged/alloc_sleep_millisecs": "4000000000",
    f"{THP}/enabled": "never",
}
libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    number = ctypes.get_errno()
    if result != 0:
        raise OSError(number, os.strerror(number), what)


def mount_all() -> None:
    for place, kind in MOUNTS.items():
        Path(place).mkdir(exist_ok=True, parents=True)
        mounted = libc.mount(kind.encode(), place.encode(), kind.encode(), 0, None)
        if mounted != 0 and ctypes.get_errno() != 16:  # EBUSY: the kernel has mounted it
            check(mounted, place)
    if not Path("/dev/fd").exists():
        Path("/dev/fd").symlink_to("/proc/self/fd")


def load_modules() -> None:
    for module in sorted(Path("/truth/modules").glob("*.ko")):
        data = module.read_bytes()
        loaded = libc.syscall(175, data, ctypes.c_ulong(len(data)), b"")  # init_module
        if loaded != 0 and ctypes.get_errno() != 17:  # EEXIST
            check(loaded, module.name)


def make_swap(megabytes: int) -> None:
    Path("/sys/block/zram0/disksize").write_text(f"{megabytes}M")
    page = bytearray(4096)  # union swap_header, include/linux/swap.h
    page[1024:1032] = (1).to_bytes(4, "little") + (megabytes * 256 - 1).to_bytes(4, "little")
    page[-10:] = b"SWAPSPACE2"
    with open("/dev/zram0", "r+b", buffering=0) as device:
        device.write(page)
    check(libc.swapon(b"/dev/zram0", 0), "swapon")


def capture(config: dict[str, list[str]]) -> dict[str, bytes]:
    """The files to send home."""
    trace = OUT / "capture.parquet"
    OUT.mkdir()
    main = "import sys; from rmapreplay.cli.app import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "capture", "--backend", "tracefs", "-o", str(trace)]
    began = time.monotonic()
    done = subprocess.run(
        [*command, *config["options"], "--", *config["argv"]],
        env=os.environ | {"PYTHONPATH": ":".join(config["path"])},
        capture_output=True,
        check=False,
    )
    report = {
        "status": done.returncode,
        "seconds": round(time.monotonic() - began, 1),
        # Nothing of a capture stays behind.
        "left": [
            *map(str, Path("/sys/kernel/tracing/instances").iterdir()),
            *map(str, Path("/sys/fs/cgroup").glob("rmapreplay*")),
            *Path("/sys/kernel/tracing/dynamic_events").read_text().splitlines(),
        ],
    }
    files = {file.name: file.read_bytes() for file in OUT.iterdir() if file.is_file()}
    return files | {
        "stdout.txt": done.stdout,
        "stderr.txt": done.stderr,
        "result.json": json.dumps(report).encode(),
    }


def send(files: dict[str, bytes]) -> None:
    for port in Path("/sys/class/virtio-ports").iterdir():
        if port.joinpath("name").read_text().strip() == "archive":
            with (
                open(f"/dev/{port.name}", "wb") as device,
                tarfile.open(fileobj=device, mode="w|") as archive,
            ):
                for name, data in files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


def main() -> None:
    try:
        mount_all()
        load_modules()
        config = json.loads(CONFIG.read_text())
        os.environ.update(PATH="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL="C")
        os.environ["HOME"] = "/truth"
        Path("/tmp").mkdir(exist_ok=True)
        for file, value in SETTINGS.items():
            if Path(file).exists():
                Path(file).write_text(value)
        make_swap(256)
        send(capture(config))
    except BaseException as error:
        print(f"truth: {error!r}", file=sys.stderr, flush=True)
    finally:
        os.sync()
        libc.reboot(0x4321FEDC)  # RB_POWER_OFF


main()
