# SPDX-License-Identifier: GPL-2.0-only
"""Import of tracefs text of tracepoints alone, and of perf's records among it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rmapreplay.traces.importers import ImportOptions, import_capture

ENTER = "sys_execve(filename: 0x5581, argv: 0x5582, envp: 0x5583)"


def line(tid: int, microseconds: float, text: str, cpu: int = 0) -> str:
    return f"{'a b':>16}-{tid:<7} [{cpu:03}] d.... {microseconds / 1e6:12.6f}: {text}"


def record(tid: int, microseconds: float, text: str) -> str:
    return f"{tid}/{tid} {microseconds / 1e6:.9f}: PERF_RECORD_{text}"


def mmap2(tid: int, microseconds: float, start: int, pages: int, what: str) -> str:
    where = f"[{start:#x}({pages << 12:#x}) @ 0 fe:00 77 0]: {what}"
    return record(tid, microseconds, f"MMAP2 {tid}/{tid}: {where}")


EXEC = [
    line(7, 10, ENTER),
    line(7, 20, "page_fault_kernel: address=0x1000 ip=0xffffffff810 error_code=0x0"),
    line(7, 30, "sched_prepare_exec: interp=/bin/x filename=/bin/x pid=7 comm=bash"),
    line(7, 40, "exit_mmap: mt_mod 00000000a1eedf0f, DESTROY"),
    line(7, 50, "page_fault_kernel: address=0x404000 ip=0xffffffff811 error_code=0x2"),
    line(7, 60, "sched_process_exec: filename=/bin/x pid=7 old_pid=7"),
    line(7, 61, "sys_execve -> 0x0"),
    line(7, 62, "page_fault_user: address=0x405000 ip=0x401000 error_code=0x6"),
]


@pytest.fixture
def imported(tmp_path: Path) -> Any:
    """imported(lines) is (metadata, rows as tuples of op, pid, tid, addr, path)."""

    def run(lines: list[str]) -> Any:
        text = tmp_path / "x.txt"
        text.write_text("\n".join(["# tracer: nop", *lines]) + "\n")
        out = tmp_path / "x.parquet"
        metadata = import_capture(text, out, source_format="tracefs", options=ImportOptions())
        rows = pl.read_parquet(out).with_columns(pl.col("op", "path").cast(pl.String))
        return metadata, rows.select("op", "pid", "tid", "addr", "path").rows()

    return run


def test_without_records_what_exec_maps_is_lacking(imported: Any) -> None:
    metadata, rows = imported(EXEC)
    # The fault after the old address space's end is the new one's.
    assert rows == [
        ("exec", 7, 7, None, "/bin/x"),
        ("fault", 7, 7, 0x404000, None),
        ("fault", 7, 7, 0x405000, None),
    ]
    assert metadata["lacks"] == ["mappings of exec"]
    assert metadata["dropped"] == {"before_first_exec": 2, "mappings_of_exec": 1}


def test_records_are_in_their_places(imported: Any) -> None:
    more = [
        *EXEC,
        line(7, 70, "sys_mmap(addr: 0, len: 0x2000, prot: 3, flags: 22, fd: ffffffff, off: 0)"),
        line(7, 70, "sys_mmap -> 0x7f0000000000"),
        line(7, 80, "sched_process_exit: comm=x pid=7 prio=120 group_dead=true"),
    ]
    records = [
        record(7, 45, "COMM exec: x:7/7"),
        mmap2(7, 46, 0x7FFFFFFDE000, 33, "rw-p [stack]"),
        # In the same microsecond as the fault that it makes possible.
        mmap2(7, 50.4, 0x404000, 1, "rw-p /bin/x"),
        mmap2(7, 60.9, 0x7FFFF7FC9000, 2, "r-xp [vdso]"),
        # Within the call, which took less than a microsecond.
        mmap2(7, 70.7, 0x7F0000000000, 2, "rw-p //anon"),
        mmap2(99, 50, 0x1000, 1, "rw-p /bin/another"),
    ]
    metadata, rows = imported([*records, *more])
    assert rows == [
        ("exec", 7, 7, None, "/bin/x"),
        ("mapping", 7, 7, 0x7FFFFFFDE000, "[stack]"),
        ("mapping", 7, 7, 0x404000, "/bin/x"),
        ("fault", 7, 7, 0x404000, None),
        ("mapping", 7, 7, 0x7FFFF7FC9000, "[vdso]"),
        ("fault", 7, 7, 0x405000, None),
        ("mmap", 7, 7, 0x7F0000000000, None),
        ("exit", 7, 7, None, None),
    ]
    assert metadata["lacks"] == []
    assert metadata["unmatched"] == {"enters": 0, "exits": 0}


def test_threads(imported: Any) -> None:
    """A thread's events are its process's, and a thread that execs takes over the number."""
    metadata, rows = imported(
        [
            *EXEC,
            line(7, 100, "task_newtask: pid=8 comm=x clone_flags=3d0f00 oom_score_adj=0"),
            line(8, 110, "page_fault_user: address=0x406000 ip=0x401000 error_code=0x6", cpu=1),
            line(7, 111, "task_newtask: pid=9 comm=x clone_flags=1200000 oom_score_adj=0"),
            line(7, 112, "task_newtask: pid=10 comm=x clone_flags=3d0f00 oom_score_adj=0"),
            line(10, 113, "sys_exit(error_code: 0)"),
            line(10, 114, "sched_process_exit: comm=x pid=10 prio=120 group_dead=false"),
            line(8, 120, ENTER, cpu=1),
            line(7, 121, "sched_process_exit: comm=x pid=7 prio=120 group_dead=false"),
            line(7, 130, "sched_process_exec: filename=/bin/y pid=7 old_pid=8", cpu=1),
            line(7, 131, "sys_execve -> 0x0", cpu=1),
            line(7, 132, "page_fault_user: address=0x407000 ip=0x401000 error_code=0x6", cpu=1),
        ]
    )
    assert rows[3:] == [
        ("fork", 7, 7, None, None),
        ("fault", 7, 8, 0x406000, None),
        ("fork", 7, 7, None, None),
        ("fork", 7, 7, None, None),
        ("exit", 7, 10, None, None),
        ("exit", 7, 7, None, None),
        ("exec", 7, 7, None, "/bin/y"),
        ("fault", 7, 7, 0x407000, None),
    ]
    assert "malformed_line" not in metadata["dropped"]


def test_a_failed_exec_leaves_its_faults_to_the_old_program(imported: Any) -> None:
    _, rows = imported(
        [
            *EXEC,
            line(7, 70, ENTER),
            # The end of an address space that nobody ever ran in.
            line(7, 71, "exit_mmap: mt_mod 00000000a1eedf0f, DESTROY"),
            line(7, 72, "page_fault_kernel: address=0x408000 ip=0xffffffff811 error_code=0x2"),
            line(7, 73, "sys_execve -> 0xfffffffffffffffe"),
        ]
    )
    assert rows[3:] == [("fault", 7, 7, 0x408000, None)]


def test_raw_system_calls(imported: Any) -> None:
    _, rows = imported(
        [
            *EXEC,
            line(7, 70, "sys_enter: NR 9 (0, 2000, 3, 22, ffffffff, 0)"),
            line(7, 71, "sys_exit: NR 9 = 139637976727552"),
            line(7, 72, "sys_enter: NR 12 (0, 1, 2, 3, 4, 5)"),
            line(7, 73, "sys_exit: NR 12 = 94382234460160"),
        ]
    )
    assert rows[3:] == [
        ("mmap", 7, 7, 139637976727552, None),
        ("brk", 7, 7, 94382234460160, None),
    ]


def test_locks(imported: Any) -> None:
    """Of two threads, who got mmap_lock first comes first."""
    lock = "mmap_lock_acquire_returned: mm=00000000a1eedf0f memcg_id=1 write=true success=true"
    metadata, rows = imported(
        [
            *EXEC,
            line(7, 100, "task_newtask: pid=8 comm=x clone_flags=3d0f00 oom_score_adj=0"),
            line(7, 110, "sys_munmap(addr: 0x500000, len: 0x1000)"),
            line(8, 111, "sys_munmap(addr: 0x600000, len: 0x1000)", cpu=1),
            line(8, 112, lock, cpu=1),
            line(8, 113, "sys_munmap -> 0x0", cpu=1),
            line(7, 114, lock),
            line(7, 115, "sys_munmap -> 0x0"),
        ]
    )
    assert rows[4:] == [("munmap", 7, 8, 0x600000, None), ("munmap", 7, 7, 0x500000, None)]
    assert not [reason for reason in metadata["dropped"] if reason.startswith("event_")]


def test_losses(imported: Any) -> None:
    metadata, _ = imported(
        [
            *EXEC,
            "CPU:1 [LOST 12 EVENTS]",
            record(7, 70, "LOST lost 3"),
            "no such line",
        ]
    )
    assert metadata["lost"] == 15
    assert metadata["dropped"]["malformed_line"] == 1
