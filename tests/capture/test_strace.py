# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay capture with strace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rmapreplay.traces.capture.backend import Settings, Target
from rmapreplay.traces.capture.session import CaptureOptions, requirements
from rmapreplay.traces.capture.strace import StraceBackend
from rmapreplay.traces.errors import CaptureError
from rmapreplay.traces.reader import read_trace

# Again and again in vfork(), in which strace cannot let go of a process when it is told to.
VFORKS = "import subprocess\nwhile True: subprocess.run(['true'])"


@pytest.fixture(scope="module")
def strace() -> None:
    """Skips where strace cannot trace, and says why."""
    options = CaptureOptions(backend="strace")
    if reason := "; ".join(str(one) for one in requirements(options) if not one.met):
        pytest.skip(f"no strace here: {reason}")


@pytest.fixture
def capture(strace: None, cli_program: Path, tmp_path: Path) -> Callable[..., Any]:
    """capture(*command, options=(), **of subprocess.run) captures into tmp_path/x.parquet."""

    def run(*command: str | Path, options: Any = (), **more: Any) -> Any:
        out = tmp_path / "x.parquet"
        arguments = [cli_program, "capture", "--backend=strace", "-o", out, *options]
        arguments += ["--", *command] if command else []
        return subprocess.run(
            [str(argument) for argument in arguments],
            **{"capture_output": True, "text": True, "timeout": 120, "check": False, **more},
        )

    return run


def rows(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path).with_columns(pl.col("op", "path").cast(pl.String))


def tracer(pid: int) -> int:
    """Who traces a process; 0: nobody."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("TracerPid:\t")[2].split()[0])


def test_subshells(capture: Any, tmp_path: Path) -> None:
    script = "for i in $(seq 20); do (:); done; sh -c 'kill -9 $$'; /bin/true & wait; exit 4"
    done = capture("bash", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "such a capture lacks: faults, mappings of exec, exit_mmap" in done.stderr
    counts = "0 lost, 0 lines not understood, 0 calls without their other half"
    assert f"exited with status 4): {counts}, 0 processes alive at the end" in done.stderr

    trace = rows(tmp_path / "x.parquet")
    # 20 subshells, a command substitution for seq, sh and true.
    forks = trace.filter(pl.col("op") == "fork")
    assert len(forks) == 23
    assert sorted(trace.filter(pl.col("op") == "exit")["pid"]) == sorted(
        {*forks["child"], trace["pid"][0]}
    )
    execs = trace.filter(pl.col("op") == "exec")["path"].to_list()
    assert [Path(path).name for path in execs] == ["bash", "seq", "sh", "true"]
    libraries = trace.filter(pl.col("op") == "mmap", pl.col("path").str.contains("libc"))
    assert len(libraries) >= 3 * 4
    assert trace["time"].is_sorted()
    # Finer than microseconds.
    assert (trace["time"] % 1000 != 0).any()
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_threads(capture: Any, compiled: Any, tmp_path: Path) -> None:
    program = compiled(
        """
        #include <pthread.h>
        #include <sys/mman.h>
        static void *work(void *place) {
            for (int i = 0; i < 50; ++i) {
                void *p = mmap(0, 20480, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                munmap(p, 20480);
            }
            return place;
        }
        int main(void) {
            pthread_t threads[4];
            for (int i = 0; i < 4; ++i) pthread_create(&threads[i], 0, work, 0);
            for (int i = 0; i < 4; ++i) pthread_join(threads[i], 0);
        }
        """,
        "-pthread",
    )
    done = capture(program)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "x.parquet")
    assert len(found.filter(pl.col("op") == "fork")) == 4
    assert found["pid"].n_unique() == 1
    assert found["tid"].n_unique() == 5
    assert found["time"].is_sorted()
    # Whatever is mapped at a time was unmapped in between.
    held: set[int] = set()
    for op, addr in found.filter(pl.col("len") == 20480).select("op", "addr").iter_rows():
        if op == "mmap":
            held.add(addr)
        elif op == "munmap":
            held.discard(addr)
    assert not held
    assert "0 calls without their other half" in done.stderr


def test_a_32_bit_program(capture: Any, compiled: Any, tmp_path: Path) -> None:
    program = compiled(
        """
        static int call(int n, int a, int b, int c, int d, int e, int f) {
            int result;
            __asm__ volatile("push %%ebp; mov %[f], %%ebp; int $0x80; pop %%ebp"
                             : "=a"(result)
                             : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), [f] "m"(f)
                             : "memory");
            return result;
        }
        void _start(void) {
            int place = call(192, 0, 65536, 3, 0x22, -1, 0);
            call(91, place, 4096, 0, 0, 0, 0);
            if (call(2, 0, 0, 0, 0, 0, 0) == 0) call(1, 3, 0, 0, 0, 0, 0);
            call(114, -1, 0, 0, 0, 0, 0);
            call(252, 0, 0, 0, 0, 0, 0);
        }
        """,
        *("-m32", "-static", "-nostdlib", "-ffreestanding", "-fomit-frame-pointer", "-fno-pic"),
    )
    done = capture("bash", "-c", f"{program}; exit $?")
    assert done.returncode == 0, done.stderr
    assert "exited with status 0): 0 lost, 0 lines not understood" in done.stderr
    found = rows(tmp_path / "x.parquet").filter(pl.col("op") != "prctl")
    mine = found.filter((pl.col("op") == "exec").cum_sum() == 2)
    assert mine.head(4).select("op", "len", "flags").rows() == [
        ("exec", None, None),
        ("mmap", 65536, 0x22),
        ("munmap", 4096, None),
        ("fork", None, 0),
    ]


def test_the_end_comes_first(capture: Any, tmp_path: Path) -> None:
    for _ in range(3):
        options = ("--duration", "0.5", "--force")
        done = capture(sys.executable, "-c", VFORKS, options=options)
        assert done.returncode == 0, done.stderr
        assert "0 lines not understood" in done.stderr
        metadata = read_trace(tmp_path / "x.parquet").metadata
        assert metadata["capture"]["ended"] == "duration"
        assert 0.5 <= metadata["capture"]["seconds"] < 5
        assert metadata["processes_alive"] >= 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_who_was_traced_goes_on(strace: None, tmp_path: Path) -> None:
    """Also if it was in vfork() when strace ended."""
    script = "import subprocess, time\nwhile True: subprocess.run(['true']); "
    script += "print(time.monotonic(), flush=True)"
    watched = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert watched.stdout

    def wait_for_children(count: int) -> None:
        """That it has from now on."""
        assert watched.stdout
        now = time.monotonic()
        while float(watched.stdout.readline()) < now:
            pass
        for _ in range(count):
            watched.stdout.readline()

    try:
        for wait in range(5):
            wait_for_children(1)
            target = Target((watched.pid,), None)
            recording = StraceBackend().start(target, Settings(tmp_path))
            assert tracer(watched.pid) != 0
            wait_for_children(10)
            time.sleep(wait / 1000)
            assert (recording.progress().events or 0) > 20
            captured = recording.stop()
            assert b"execve(" in b"".join(captured.text.chunks())
            assert tracer(watched.pid) == 0
            wait_for_children(10)
        assert watched.poll() is None
    finally:
        watched.kill()
        watched.wait()


def test_without_root_and_cgroup(strace: None, tmp_path_factory: Any) -> None:
    """In a process that has given up being root; it may be traced, as one that never was."""
    if os.geteuid() != 0:
        pytest.skip("not root: the other tests are this one")
    script = """if True:
        import ctypes, os, sys
        import rmapreplay
        import rmapreplay.traces.capture.perf  # while it may be read
        from rmapreplay.traces.capture.session import CaptureOptions
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        PR_SET_DUMPABLE = 4
        assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
        options = CaptureOptions(backend="strace")
        rmapreplay.capture(["sh", "-c", "(sleep 0.2; /bin/true) & exit 3"], sys.argv[1], options)
        try:
            rmapreplay.capture(["true"], sys.argv[1] + ".2", CaptureOptions(backend="perf"))
        except rmapreplay.RmapReplayError as error:
            print(error)
    """
    directory = tmp_path_factory.mktemp("nobody", numbered=True)
    for path in (directory, *directory.parents):
        if path == Path("/tmp"):
            break
        path.chmod(0o777)
    out = directory / "x.parquet"
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "root: no" in done.stdout
    found = rows(out)
    assert out.stat().st_uid == 65534
    assert [Path(path).name for path in found.filter(pl.col("op") == "exec")["path"]] == [
        *("sh", "sleep", "true")
    ]
    metadata = read_trace(out).metadata
    assert metadata["capture"]["exit"]["status"] == 3
    assert metadata["processes_alive"] == 0
    assert [path.name for path in directory.iterdir()] == ["x.parquet"]


def test_a_full_disk(capture: Any, tmp_path: Path) -> None:
    """strace itself would go on."""
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(full)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    try:
        script = "for i in $(seq 300); do /bin/true; done"
        options = ("-o", full / "y.parquet")
        done = capture("bash", "-c", script, options=options)
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1].endswith("No space left on device")
        assert not list(full.iterdir())
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_a_killed_strace(strace: None, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "30"]) as watched:
        recording = StraceBackend().start(Target((watched.pid,), None), Settings(tmp_path))
        os.kill(tracer(watched.pid), signal.SIGKILL)
        with pytest.raises(CaptureError, match="strace ended with status -9"):
            while True:
                recording.progress()
        recording.abandon()
        recording.abandon()
        watched.kill()


def test_no_such_process(strace: None, tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    with pytest.raises(CaptureError, match="strace ended with status 1: .*No such process"):
        StraceBackend().start(Target((gone.pid,), None), Settings(tmp_path))


def test_truth_needs_faults(capture: Any, tmp_path: Path) -> None:
    done = capture("true", options=("--truth",))
    assert done.returncode == 2
    assert "--truth: strace sees no faults" in done.stderr
    assert not list(tmp_path.iterdir())


def test_cannot_begin_in_the_middle(cli: Any, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    done = cli("capture", "--attach", "1", "--backend", "strace", "-o", out)
    assert done.returncode == 2
    assert "--attach: not with --backend strace, use --backend perf" in done.stderr
    assert not list(tmp_path.iterdir())


def test_keeps_its_text(capture: Any, tmp_path: Path, cli: Any) -> None:
    assert capture("ls", "/", options=("--keep-raw",)).returncode == 0
    made = rows(tmp_path / "x.parquet")
    out = tmp_path / "again.parquet"
    done = cli("import", tmp_path / "x.strace.txt", "-o", out)
    assert done.returncode == 0, done.stderr
    assert rows(out).equals(made)


@pytest.mark.parametrize("scope", ["0", "3"])
def test_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scope: str) -> None:
    """A strace that may not trace."""
    program = tmp_path / "strace"
    program.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --version ] && echo strace 9.9 && exit\n'
        'echo "strace: ptrace(PTRACE_TRACEME, ...): Operation not permitted" >&2; exit 1\n'
    )
    program.chmod(0o755)
    (tmp_path / "ptrace_scope").write_text(f"{scope}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(
        "rmapreplay.traces.capture.strace._YAMA", tmp_path / "ptrace_scope", raising=True
    )
    unmet = [one for one in requirements(CaptureOptions(backend="strace")) if not one.met]
    remedy = "ptrace_scope than 3" if scope == "3" else "run as root"
    assert len(unmet) == 1
    assert (unmet[0].what, unmet[0].found) == (
        "ptrace",
        "strace: ptrace(PTRACE_TRACEME, ...): Operation not permitted",
    )
    assert remedy in unmet[0].remedy

    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    unmet = [one for one in StraceBackend().requirements(Settings(tmp_path)) if not one.met]
    assert [str(one) for one in unmet] == [
        "strace: not installed; install it, in Debian with: apt install strace"
    ]
