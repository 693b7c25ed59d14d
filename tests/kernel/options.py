# SPDX-License-Identifier: GPL-2.0-only
"""The driver's command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

USERLAND_SUITE: Final = "trixie"
"""Where programs come from that are not this machine's own."""


def parser(description: str) -> argparse.ArgumentParser:
    """All options, with their defaults."""
    made = argparse.ArgumentParser(
        prog="kernel-truth",
        description=description,
        epilog="exit status: 0 every workload exact; 1 model and kernel disagree; 2 a recording "
        "could not be made or used",
    )
    add_kernel(made.add_argument_group("the kernel"))
    _add_workloads(made.add_argument_group("what runs in it"))
    _add_command(made.add_argument_group("a command of your own"))
    add_run(made.add_argument_group("how"))
    return made


def add_kernel(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--kernel", type=Path, metavar="IMAGE", help="a bzImage of your own")
    add("--modules", type=Path, metavar="DIR", help="its modules, if the drivers are not built in")
    add(
        "--suite",
        default="trixie-backports",
        help="without --kernel: the Debian suite to fetch one from (%(default)s)",
    )
    add(
        "--package",
        default="linux-image-cloud-amd64",
        metavar="NAME",
        help="its package, or a metapackage that names the newest (%(default)s)",
    )


def _add_workloads(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--workloads",
        default="",
        metavar="NAME,...",
        help="workloads of our set (default: all)",
    )
    add("--list", action="store_true", help="print our set and exit")
    add(
        "--smoke",
        action="store_true",
        help="two small ones; what this machine lacks is said, and is no failure",
    )


def _add_command(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--command", metavar="CMD", help="run this instead of our set")
    add("--name", help="of the directory for its results (default: the program's)")
    add(
        "--file",
        action="append",
        default=[],
        metavar="PATH",
        help="file or directory of this machine that it needs besides its program; repeatable",
    )
    add(
        "--guest-package",
        action="append",
        default=[],
        metavar="NAME",
        help=f"take it from this package of Debian {USERLAND_SUITE}, with the libraries that one "
        "needs, and not from this machine; repeatable",
    )
    add(
        "--every",
        type=int,
        default=500,
        metavar="MS",
        help="how often its folios are walked; 0: only when it asks (%(default)s)",
    )
    add(
        "--trigger",
        default="migrate",
        choices=("migrate", "reclaim", "pageout"),
        help="how they are walked (%(default)s)",
    )
    add(
        "--thp",
        default="never",
        choices=("never", "madvise", "always"),
        help="transparent huge pages (%(default)s)",
    )
    add("--swap", type=int, default=0, metavar="MB", help="zram to swap to (none)")
    add("--limit", type=int, default=300, metavar="S", help="time for it (%(default)s)")
    add("--buffer", type=int, default=512, metavar="MB", help="trace buffer (%(default)s)")


def add_run(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--model", "-m", default="anon_vma", metavar="SPEC", help="to check (%(default)s)")
    add("--accel", default="auto", choices=("auto", "kvm", "tcg"), help="(%(default)s)")
    add(
        "--cpus",
        type=int,
        default=1,
        metavar="N",
        help="of the guest; with several, tasks race, and no trace tells all of it (%(default)s)",
    )
    add(
        "--out",
        type=Path,
        default=Path("build/kernel/out"),
        metavar="DIR",
        help="results, in DIR/RELEASE/WORKLOAD (%(default)s)",
    )
    add(
        "--cache",
        type=Path,
        default=Path("build/kernel"),
        metavar="DIR",
        help="packages and programs, kept for the next time (%(default)s)",
    )
