# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay capture --truth: the kernel's own allocations in the same run, and check with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rmapreplay.traces.capture.perf import kmem
from rmapreplay.traces.capture.perf.kmem import cache_names, kmem_events, kmem_requirements
from rmapreplay.traces.truth import read_truth

POOL = """
import multiprocessing, mmap
def work(n):
    with mmap.mmap(-1, 1 << 20) as memory:
        memory.write(bytes(1 << 19))
    return sum(bytearray(1 << 16)) + n
if __name__ == "__main__":
    for _ in range(2):
        with multiprocessing.get_context("fork").Pool(3) as pool:
            pool.map(work, range(30), 1)
"""


@pytest.fixture
def truth(capture: Any) -> Callable[..., Any]:
    """truth(*command, options=()) is capture() with --truth, which must succeed without loss."""
    if reason := "; ".join(str(one) for one in kmem_requirements() if not one.met):
        pytest.skip(f"no slab allocations to be had: {reason}")

    def run(*command: str | Path, options: Any = ()) -> Any:
        done = capture(*command, options=("--truth", *options))
        assert done.returncode == 0, done.stderr
        assert " 0 lost" in done.stderr
        return done

    return run


@pytest.fixture
def checked(cli: Any, tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """checked() is what check says of tmp_path/x.parquet, which must be the kernel exactly."""

    def run() -> dict[str, Any]:
        done = cli("check", tmp_path / "x.parquet", "--format", "json")
        summary: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == 0, summary["objects"]
        assert summary["exact"]
        return summary

    return run


def allocations(tmp_path: Path) -> pl.DataFrame:
    return read_truth(tmp_path / "x.parquet").allocations


def test_subshells(truth: Any, checked: Any, tmp_path: Path) -> None:
    truth("bash", "-c", "for i in $(seq 50); do (: | :); done; ls -R /etc | sort | tail -1")
    objects = checked()["objects"]
    for kind, site in [
        ("vm_area_struct", "vm_area_dup"),
        ("anon_vma", "anon_vma_fork"),
        ("anon_vma_chain", "anon_vma_clone"),
    ]:
        counts = objects[kind]
        assert counts["freed"]["expected"] == counts["expected"] > 1000
        assert counts["sites"][site]["expected"] > 1000
    found = allocations(tmp_path)
    assert found["time"].is_sorted()
    # Every object that was allocated was seen to be freed, once, and under its own name.
    lives = found.group_by("object", "id").agg(pl.col("action").sort_by("time"))
    assert lives["action"].to_list() == [["alloc", "free"]] * len(lives)
    metadata = read_truth(tmp_path / "x.parquet").metadata
    assert metadata["lost"] == 0
    assert metadata["sources"] == ["perf.data", "kmem.data"]
    assert "malformed_line" not in metadata["dropped"]
    assert "free_not_seen" not in metadata["dropped"]


def test_a_pool(truth: Any, checked: Any) -> None:
    truth(sys.executable, "-c", POOL)
    assert checked()["objects"]["vm_area_struct"]["expected"] > 1000


def test_calls_that_fail(truth: Any, checked: Any, compiled: Any, tmp_path: Path) -> None:
    """fork at the limit of processes copies all before it gives up; exec of a script that is none
    has made a new address space by then. No trace tells of either."""
    program = compiled(
        """
        #include <errno.h>
        #include <grp.h>
        #include <stdlib.h>
        #include <sys/resource.h>
        #include <sys/wait.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            for (int i = 0; i < 20; ++i) {
                pid_t pid = fork();
                if (pid == 0) {
                    execv(argv[1], argv);
                    _exit(errno == ENOEXEC ? 0 : 3);
                }
                int status;
                if (wait(&status) != pid || status) return 4;
            }
            struct rlimit none = {0, 0};
            if (setgroups(0, 0) || setgid(64123) || setuid(64123)) return 5;
            if (setrlimit(RLIMIT_NPROC, &none)) return 6;
            for (int i = 0; i < 5; ++i) {
                if (fork() != -1 || errno != EAGAIN) return 7;
            }
            return 0;
        }
        """
    )
    script = tmp_path / "script"
    script.write_text("true\n")
    script.chmod(0o755)
    done = truth(program, script)
    assert "the command exited with status 0" in done.stderr
    checked()
    assert read_truth(tmp_path / "x.parquet").metadata["dropped"]["of_failed_call"] >= 20


def test_the_end_comes_first(truth: Any, checked: Any) -> None:
    """Both recordings end at the same point of the workload."""
    for _ in range(3):
        script = "while :; do (:); done & while :; do (: | :); done"
        truth("bash", "-c", script, options=("--duration", "0.5", "--force"))
        live = checked()["moments"][-1]["live"]
        assert live["vm_area_struct"]["expected"] > 0


def test_kept(truth: Any, tmp_path: Path, cli: Any) -> None:
    truth("ls", "/", options=("--keep-raw",))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("x.kmem.data", "x.parquet", "x.perf.data", "x.truth.parquet")
    ]


def test_without_it_there_is_no_allocation(capture: Any, tmp_path: Path) -> None:
    assert capture("ls", "/").returncode == 0
    assert allocations(tmp_path).is_empty()


def test_names_of_merged_caches(tmp_path: Path) -> None:
    for name, target in [
        ("anon_vma_chain", ":A-0000064"),
        ("fs_cache", ":A-0000064"),
        ("kmalloc-64", ":0000064"),
    ]:
        (tmp_path / name).symlink_to(target)
    for name in (":A-0000064", "anon_vma", "vm_area_struct", "other"):
        (tmp_path / name).mkdir()
    assert cache_names(tmp_path) == ["anon_vma", "anon_vma_chain", "fs_cache", "vm_area_struct"]
    assert cache_names(tmp_path / "none") == ["anon_vma", "anon_vma_chain", "vm_area_struct"]


def test_frees_are_recorded_everywhere() -> None:
    events = {event.name: event for event in kmem_events()}
    free = events.pop("kmem:kmem_cache_free")
    assert free.everywhere
    assert 'name == "vm_area_struct"' in free.condition
    assert not any(event.everywhere for event in events.values())


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for event in ("kmem_cache_alloc", "kmem_cache_free"):
        directory = tmp_path / "events" / "kmem" / event
        directory.mkdir(parents=True)
        (directory / "format").write_text("field:const void * ptr;\n")
    monkeypatch.setattr(kmem, "tracefs", lambda: tmp_path)
    monkeypatch.setattr(kmem, "_KALLSYMS", tmp_path / "kallsyms")
    (tmp_path / "kallsyms").write_text("0000000000000000 T _stext\n0000000000000000 T _text\n")
    unmet = {one.what: str(one) for one in kmem_requirements() if not one.met}
    assert unmet.pop("slab cache names").startswith(
        "slab cache names: kmem:kmem_cache_alloc does not tell them; boot Linux 6.1 or later"
    )
    assert "kptr_restrict=0" in unmet.pop(str(tmp_path / "kallsyms"))
    (tmp_path / "kallsyms").write_text("0000000000000000 A fixed\nffffffff81000000 T _text\n")
    assert str(tmp_path / "kallsyms") not in {
        one.what for one in kmem_requirements() if not one.met
    }


def test_no_recording_stays_if_the_second_cannot_begin(
    perf: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import rmapreplay as rr
    from rmapreplay.traces.capture.perf.record import Tracepoint
    from rmapreplay.traces.capture.session import CaptureOptions

    bad = [Tracepoint("kmem:no_such_event")]
    monkeypatch.setattr("rmapreplay.traces.capture.perf.kmem_events", lambda: bad)
    with pytest.raises(rr.RmapReplayError, match="perf record ended with status"):
        rr.capture(["true"], tmp_path / "x.parquet", CaptureOptions(truth=True))
    assert not list(tmp_path.iterdir())
    ours = f"--output={tmp_path}"
    commands = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline"))
    assert not [command for command in commands if ours.encode() in command]


def test_what_was_there_before_has_no_answer_key(cli: Any, tmp_path: Path) -> None:
    done = cli("capture", "--attach", "1", "--truth", "-o", tmp_path / "x.parquet")
    assert done.returncode == 2
    assert "--attach: not with --truth" in done.stderr
    assert not list(tmp_path.iterdir())
