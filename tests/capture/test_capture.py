# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay capture with perf: what becomes of real programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import rmapreplay as rr

MAP_ANONYMOUS = 0x20
CLONE_VM = 0x100


def rows(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path).with_columns(pl.col("op").cast(pl.String))


def test_subshells(capture: Any, tmp_path: Path, replayed: Any) -> None:
    script = "for i in $(seq 20); do (x=$(printf %4096s); : ${#x}) ; done; /bin/true; exit 0"
    done = capture("bash", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "the command exited with status 0): 0 lost, 0 lines not understood" in done.stderr

    trace = rows(tmp_path / "x.parquet")
    # 20 subshells, as many command substitutions in them, seq and true.
    forks = trace.filter(pl.col("op") == "fork")
    assert len(forks) == 42
    ends = trace.filter(pl.col("op") == "exit")
    assert sorted(ends["pid"]) == sorted({*forks["child"], trace["pid"][0]})
    execs = trace.filter(pl.col("op") == "exec")["path"].to_list()
    assert [Path(path).name for path in execs] == ["bash", "seq", "true"]
    assert len(trace.filter(pl.col("op") == "exit_mmap")) == 43 + 2  # two execs in a fork's child

    summary = replayed()
    assert sum(summary["anomalies"].values()) == 0
    for kind in ("vm_area_struct", "anon_vma", "anon_vma_chain"):
        objects = summary["models"]["anon_vma"]["objects"][kind]
        assert objects["live"] == 0
        assert objects["allocated"] > 0


def test_metadata(capture: Any, trace: Any, tmp_path: Path) -> None:
    done = capture("sh", "-c", "exit 7", options=("--description", "a shell"))
    assert done.returncode == 0, done.stderr
    metadata = trace().metadata
    assert metadata["command"] == "sh -c 'exit 7'"
    assert metadata["description"] == "a shell"
    assert metadata["kernel"] == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert metadata["lost"] == 0
    assert metadata["processes_alive"] == 0
    run = metadata["capture"]
    assert (run["backend"], run["ended"]) == ("perf", "exited")
    assert (run["exit"]["status"], run["exit"]["signal"]) == (7, 0)
    assert run["host"]["cpus"] >= 1
    assert not list(tmp_path.glob(".*"))


def test_faults_are_all_seen(capture: Any, trace: Any) -> None:
    """What the kernel counts and no event shows: exec writing its arguments, once for each."""
    done = capture("bash", "-c", "for i in $(seq 200); do (:); done")
    assert done.returncode == 0, done.stderr
    metadata = trace().metadata
    counted = metadata["capture"]["faults"]
    if counted is None:
        pytest.skip("no memory controller here that counts faults")
    seen = sum(n for event, n in metadata["events"].items() if "page_fault" in event)
    seen -= metadata["dropped"].get("fault_of_signal_frame", 0)
    assert 0 <= counted - seen <= 2 * metadata["events"]["sched:sched_process_exec"]


def test_a_child_outlives_its_parent(capture: Any, trace: Any, tmp_path: Path) -> None:
    done = capture("bash", "-c", "(sleep 0.5; /bin/ls / >/dev/null) & exit 5")
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "x.parquet")
    execs = found.filter(pl.col("op") == "exec")
    assert [Path(path).name for path in execs["path"]] == ["bash", "sleep", "ls"]
    first = found["pid"][0]
    order = found.with_row_index().filter((pl.col("op") == "exit") & (pl.col("pid") == first))
    assert order["index"][0] < found.with_row_index().filter(pl.col("op") == "exec")["index"][2]
    assert trace().metadata["capture"]["exit"]["status"] == 5
    assert trace().metadata["processes_alive"] == 0


def test_many_processes(capture: Any, compiled: Any, trace: Any, replayed: Any) -> None:
    """2000 alive at a time."""
    program = compiled(
        """
        #include <stdlib.h>
        #include <sys/wait.h>
        #include <unistd.h>
        int main(void) {
            int ends[2];
            char c;
            if (pipe(ends)) return 1;
            for (int i = 0; i < 2000; ++i) {
                pid_t pid = fork();
                if (pid < 0) return 2;
                if (pid == 0) {
                    close(ends[1]);
                    _exit(read(ends[0], &c, 1) != 0);
                }
            }
            close(ends[1]);
            int status;
            while (wait(&status) > 0) {
                if (status) return 3;
            }
            return 0;
        }
        """
    )
    done = capture(program)
    assert done.returncode == 0, done.stderr
    metadata = trace().metadata
    assert metadata["capture"]["exit"]["status"] == 0
    assert metadata["lost"] == 0
    summary = replayed()
    assert sum(summary["anomalies"].values()) == 0
    assert summary["models"]["cow"]["objects"]["cow_context"]["peak"] == 2001


def test_static_program(capture: Any, compiled: Any, tmp_path: Path, replayed: Any) -> None:
    """No libraries, no dynamic linker; the pages it writes are just those it says."""
    program = compiled(
        """
        static long call(long n, long a, long b, long c, long d, long e, long f) {
            register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
            long result;
            __asm__ volatile("syscall" : "=a"(result)
                             : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                             : "rcx", "r11", "memory");
            return result;
        }
        void _start(void) {
            volatile char *place = (char *)call(9, 0, 64 << 12, 3, 0x22, -1, 0);
            for (int i = 0; i < 64; i += 2) place[i << 12] = 1;
            call(11, (long)place, 16 << 12, 0, 0, 0, 0);
            call(231, 0, 0, 0, 0, 0, 0);
        }
        """,
        *("-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"),
    )
    done = capture(program)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "x.parquet")
    mmap = found.filter((pl.col("op") == "mmap") & (pl.col("flags") == 0x22)).to_dicts()
    assert [row["len"] for row in mmap] == [64 << 12]
    start = mmap[0]["addr"]
    inside = pl.col("addr").is_between(start, start + (64 << 12), closed="left")
    faults = found.filter((pl.col("op") == "fault") & inside)
    assert [(addr - start) >> 12 for addr in faults["addr"]] == list(range(0, 64, 2))
    assert faults["write"].all()
    assert found.filter(pl.col("op") == "munmap").select("addr", "len").rows() == [
        (start, 16 << 12)
    ]
    assert sum(replayed()["anomalies"].values()) == 0


def test_32_bit_program(capture: Any, compiled: Any, tmp_path: Path, replayed: Any) -> None:
    """Its system calls have other numbers. The shell that starts it and ls are 64-bit."""
    program = compiled(
        """
        static long call(long n, long a, long b, long c, long d, long e) {
            long result;
            // The sixth argument is 0.
            __asm__ volatile("push %%ebp; xor %%ebp, %%ebp; int $0x80; pop %%ebp" : "=a"(result)
                             : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
            return result;
        }
        void _start(void) {
            volatile char *place = (char *)call(192, 0, 64 << 12, 3, 0x22, -1);
            for (int i = 0; i < 64; i += 2) place[i << 12] = 1;
            call(91, (long)place, 16 << 12, 0, 0, 0);
            call(125, (long)place + (32 << 12), 8 << 12, 1, 0, 0);
            if (call(2, 0, 0, 0, 0, 0) == 0) place[40 << 12] = 2;
            call(252, 0, 0, 0, 0, 0);
        }
        """,
        *("-m32", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie"),
    )
    done = capture("bash", "-c", f"{program}; ls / >/dev/null; exit 0")
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "x.parquet")
    mmap = found.filter((pl.col("op") == "mmap") & (pl.col("len") == 64 << 12)).to_dicts()
    assert [row["flags"] for row in mmap] == [0x22]
    start, pid = mmap[0]["addr"], mmap[0]["pid"]
    assert start < 1 << 32
    inside = pl.col("addr").is_between(start, start + (64 << 12), closed="left")
    faults = found.filter((pl.col("op") == "fault") & inside & (pl.col("pid") == pid))
    assert [(addr - start) >> 12 for addr in faults["addr"]] == list(range(0, 64, 2))
    calls = found.filter(pl.col("op").is_in(["munmap", "mprotect"]) & inside)
    assert calls.select("op", "addr", "len").rows() == [
        ("munmap", start, 16 << 12),
        ("mprotect", start + (32 << 12), 8 << 12),
    ]
    child = found.filter((pl.col("op") == "fork") & (pl.col("pid") == pid))["child"].to_list()
    copied = found.filter((pl.col("op") == "fault") & inside & pl.col("pid").is_in(child))
    assert [(addr - start) >> 12 for addr in copied["addr"]] == [40]
    assert sum(replayed()["anomalies"].values()) == 0


def test_from_python(perf: None, tmp_path: Path) -> None:
    out = tmp_path / "ls.parquet"
    metadata = rr.capture(["ls", "/"], out)
    assert metadata["rows"] == rr.read_trace(out).rows > 100
    assert metadata["capture"]["exit"]["status"] == 0
    with pytest.raises(rr.RmapReplayError, match="exists already"):
        rr.capture(["ls", "/"], out)
