# SPDX-License-Identifier: GPL-2.0-only
"""Checks the models against a running kernel: boots it under QEMU, records workloads with probes on
the reverse map, imports the recordings, and compares."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from boot import Machine, best_accelerator, require_qemu
from errors import HarnessError, UnavailableError
from kernels import Kernel, debian_kernel, own_kernel
from options import USERLAND_SUITE, parser
from packages import Archive
from record import record
from verdict import HEADINGS, Verdict, judge
from workloads import OUR_SET, SMOKE, Workload, choose


def main() -> int:
    options = parser(__doc__ or "").parse_args()
    if options.list:
        _print_table(("workload", "what it does"), [(w.name, w.about) for w in OUR_SET])
        return 0
    try:
        return _run(options)
    except UnavailableError as error:
        if options.smoke:
            print(f"kernel-truth: SKIPPED, nothing was checked: {error}")
            return 0
        print(f"kernel-truth: {error}", file=sys.stderr)
    except HarnessError as error:
        print(f"kernel-truth: {error}", file=sys.stderr)
    return 2


def _run(options: argparse.Namespace) -> int:
    workloads = _workloads(options)
    require_qemu()
    packages = options.cache / "packages"
    if options.kernel:
        kernel = own_kernel(options.kernel, options.modules)
    else:
        kernel = debian_kernel(options.package, Archive(options.suite, packages))
    accelerator = best_accelerator(kernel) if options.accel == "auto" else options.accel
    _say(f"Linux {kernel.release} under {accelerator}, workloads: {len(workloads)}")

    userland = Archive(USERLAND_SUITE, packages)
    verdicts: dict[str, Verdict | HarnessError] = {}
    for workload in workloads:
        began = time.monotonic()
        # The trace buffer, and as much again for the workload and its files in memory.
        memory_mb = max(2048, 1024 + 2 * workload.buffer_mb)
        machine = Machine(accelerator, memory_mb, options.cpus)
        out = options.out / kernel.release / workload.name
        try:
            made = record(workload, kernel, machine, userland, options.cache / "bin", out)
            for probe in made.missing:
                _say(f"{workload.name}: this kernel has no {probe}")
            verdicts[workload.name] = judge(made, workload, options.model)
        except UnavailableError:
            raise
        except HarnessError as error:
            verdicts[workload.name] = error
        _say(f"{workload.name}: {time.monotonic() - began:.0f} s")
    return _report(kernel, verdicts)


def _workloads(options: argparse.Namespace) -> Sequence[Workload]:
    if options.smoke:
        return choose(SMOKE)
    if not options.command:
        return choose(options.workloads.replace(",", " ").split())
    argv = tuple(shlex.split(options.command))
    host_files: tuple[str, ...] = tuple(options.file)
    if not options.guest_package:
        program = shutil.which(argv[0])
        if not program:
            raise HarnessError(f"{argv[0]}: no such program here")
        argv = (program, *argv[1:])
        host_files = (program, *host_files)
    return [
        Workload(
            name=options.name or Path(argv[0]).name,
            about=options.command,
            argv=argv,
            host_files=host_files,
            packages=tuple(options.guest_package),
            thp=options.thp,
            swap_mb=options.swap,
            timer_ms=options.every,
            trigger=options.trigger,
            limit_s=options.limit,
            buffer_mb=options.buffer,
        )
    ]


def _report(kernel: Kernel, verdicts: dict[str, Verdict | HarnessError]) -> int:
    """Prints what came out; the exit status."""
    rows = []
    remarks = []
    status = 0
    for name, verdict in verdicts.items():
        if isinstance(verdict, HarnessError):
            rows.append((name, *[""] * len(HEADINGS), "FAILED"))
            remarks.append(f"{name}: {verdict}")
            status = 2
        elif verdict.exact:
            rows.append((name, *verdict.cells(), "exact"))
        else:
            rows.append((name, *verdict.cells(), "DIFFERS"))
            remarks.append(f"{name}: {verdict.first()}")
            status = status or 1
    print(f"Linux {kernel.release}\n")
    _print_table(("workload", *HEADINGS, "verdict"), rows)
    if remarks:
        print("", *remarks, sep="\n")
    return status


def _print_table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        # Numbers to the right; the first column and the last are words.
        cells = [
            cell.ljust(width) if i in (0, len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _say(text: str) -> None:
    print(f"kernel-truth: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
