# SPDX-License-Identifier: GPL-2.0-only
"""Boots a kernel that takes probes, runs `rmapreplay capture --backend tracefs` in it, and checks
the trace: the walks and objects that the capture recorded against the model's."""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

from boot import Machine, best_accelerator, boot, require_qemu
from compiler import build_program
from errors import HarnessError, UnavailableError
from initramfs import Tree
from kernels import Kernel, debian_kernel, own_kernel
from options import add_kernel, add_run
from packages import Archive

HERE: Final = Path(__file__).parent
_MODULES: Final = ("virtio_pci", "virtio_console", "zram")
_WORKLOAD: Final = "/workload/own_pages"
_SHELL: Final = f"for i in 1 2 3; do (:); done; {_WORKLOAD}; (:); echo done | cat"
_BOOT_SECONDS: Final = 900.0

# What a capture needs of Python: the files that one loads, and all modules of the packages that
# they are of, for some are loaded late.
_NEEDED: Final = """
import contextlib, io, json, sys, sysconfig
from pathlib import Path
import pyarrow.compute, pyarrow.parquet
from rmapreplay.cli.app import main
from rmapreplay.traces.capture import tracefs
from rmapreplay.traces.importers import importer
sys.argv = ["rmapreplay", "capture", "--check", "--backend", "tracefs"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
files = {m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)}
maps = (line.split(None, 5) for line in open("/proc/self/maps"))
files |= {fields[5].strip() for fields in maps if len(fields) == 6}
stdlib = Path(sysconfig.get_path("stdlib"))
files |= {*map(str, stdlib.glob("*.py")), *map(str, stdlib.glob("lib-dynload/*.so"))}
for name, module in list(sys.modules.items()):
    if "." not in name and hasattr(module, "__path__"):
        for place in module.__path__:
            files |= {*map(str, Path(place).rglob("*.py"))}
files |= {*map(str, Path(tracefs.__file__).parent.glob("*.txt"))}
print(json.dumps({"files": sorted(files), "path": [p for p in sys.path if p]}))
"""


def main() -> int:
    options = _parser().parse_args()
    try:
        return _run(options)
    except (UnavailableError, HarnessError) as error:
        print(f"kernel-capture: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kernel-capture", description=__doc__)
    add_kernel(parser.add_argument_group("the kernel"))
    add_run(parser.add_argument_group("how"))
    return parser


def _run(options: argparse.Namespace) -> int:
    require_qemu()
    if options.kernel:
        kernel = own_kernel(options.kernel, options.modules)
    else:
        archive = Archive(options.suite, options.cache / "packages")
        kernel = debian_kernel(options.package, archive)
    accelerator = best_accelerator(kernel) if options.accel == "auto" else options.accel
    out = options.out / kernel.release / "capture"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kernel-capture-") as temporary:
        raw = Path(temporary)
        with (raw / "initramfs.cpio").open("wb") as file:
            _tree(kernel, options.cache / "bin").write(file)
        machine = Machine(accelerator, 3072, options.cpus)
        try:
            boot(kernel, raw / "initramfs.cpio", machine, raw, _BOOT_SECONDS)
        finally:
            shutil.copy(raw / "console.log", out)
        _unpack(raw / "archive.tar", out)
    _require_good(out)
    return _check(out / "capture.parquet", options.model)


def _tree(kernel: Kernel, build: Path) -> Tree:
    said = subprocess.run(
        [sys.executable, "-c", _NEEDED], capture_output=True, text=True, check=False
    )
    if said.returncode != 0:
        raise HarnessError(f"rmapreplay does not run here: {said.stderr.strip()}")
    needed: dict[str, Any] = json.loads(said.stdout)
    python = Path(sys.executable).resolve()
    tree = Tree()
    for file in (*needed["files"], python, "/bin/bash", "/bin/cat"):
        if Path(file).is_file():
            tree.add_host(Path(file))
    tree.add(_WORKLOAD, build_program([HERE / "workloads/own_pages.c"], build).read_bytes(), 0o755)
    init = (HERE / "guest/capture_init.py").read_bytes()
    tree.add("/init", b"#!%s\n" % str(python).encode() + init, 0o755)
    config = {
        "path": needed["path"],
        "options": ["--buffer", "256", "--description", "in a guest"],
        "argv": ["/bin/bash", "-c", _SHELL],
    }
    tree.add("/truth/config.json", json.dumps(config).encode())
    for number, (name, data) in enumerate(kernel.load_order(_MODULES)):
        tree.add(f"/truth/modules/{number:02}-{name}.ko", data)
    return tree


def _unpack(archive: Path, out: Path) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as members:
            members.extractall(out, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise HarnessError(f"the guest sent nothing of use; see {out / 'console.log'}") from error


def _require_good(out: Path) -> None:
    said = (out / "stderr.txt").read_text()
    print(said, end="", file=sys.stderr)
    result = json.loads((out / "result.json").read_text())
    if result["status"] != 0:
        raise HarnessError(f"the capture exited with status {result['status']}")
    if result["left"]:
        raise HarnessError(f"the capture left behind: {', '.join(result['left'])}")


def _check(trace: Path, model: str) -> int:
    program = Path(sys.executable).with_name("rmapreplay")
    done = subprocess.run([program, "check", trace, "--model", model], check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
