# SPDX-License-Identifier: GPL-2.0-only
"""Attaching: the first rows of the trace lead to what was there, the rest goes on from it, and
afterwards everything is as it was."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pytest

from rmapreplay.traces.capture import cgroup, host
from rmapreplay.traces.capture.attach import attach
from rmapreplay.traces.capture.backend import Settings, Target, backend
from rmapreplay.traces.capture.snapshot import Snapshot, take
from rmapreplay.traces.errors import CaptureError
from rmapreplay.traces.importers import ImportOptions, importer
from rmapreplay.traces.reader import read_trace

from . import attached

SOURCE: Final = Path(__file__).with_name("attached_tree.c")
MONKEY: Final = Path(__file__).with_name("attached_monkey.c")
GATE_WRITE: Final = 101


class Tree:
    """The program of attached_tree.c, when all its processes wait."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True
        )
        self.pid = self._process.pid
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n"

    def go(self, processes: int) -> None:
        """Let so many of them go on."""
        gate = os.open(f"/proc/{self.pid}/fd/{GATE_WRITE}", os.O_WRONLY)
        os.write(gate, b"g" * processes)
        os.close(gate)

    def alive(self) -> list[int]:
        return session(self.pid)

    def end(self) -> int:
        return self._process.wait(timeout=20)

    def close(self) -> None:
        if self.alive():
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def session(leader: int) -> list[int]:
    """The living processes of a session."""
    command = ["ps", "-o", "pid=,stat=", "-s", str(leader)]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    found = (line.split() for line in text.splitlines())
    return sorted(int(pid) for pid, state in found if "Z" not in state)


@pytest.fixture
def tree(perf: None, compiled: Callable[..., Path]) -> Iterator[Tree]:
    made = Tree(compiled(SOURCE.read_text(), "-pthread"))
    yield made
    made.close()


def home(pid: int) -> str:
    match = re.search(r"^0::(.*)$", Path(f"/proc/{pid}/cgroup").read_text(), re.MULTILINE)
    assert match
    return match[1]


def ours() -> list[Path]:
    place = cgroup.mount()
    assert place
    return list(place.rglob(f"rmapreplay-{os.getpid()}-*"))


def trace_of(snapshot: Snapshot) -> Any:
    table = pa.Table.from_batches(list(snapshot.rows()))
    thp = {"enabled": host.thp_enabled(), "use_zero_page": host.thp_use_zero_page()}
    return read_trace(table, metadata={"kernel": host.kernel_release(), "thp": thp})


def test_a_replay_of_the_snapshot_is_what_was_there(tree: Tree) -> None:
    with attach(str(tree.pid)) as held:
        assert held.pids == tuple(tree.alive())
        snapshot = take(held.pids)
        there = attached.read(held.pids)
    replay, anomalies = attached.replayed(trace_of(snapshot), held.pids)
    assert anomalies == {}
    assert replay.vmas == there.vmas
    assert replay.sharers == there.sharers

    # What makes this worth asking: pages of one, two, three and four processes.
    sizes = {len(who) for _, who in there.sharers}
    assert sizes == {1, 2, 3, 4}
    metadata = snapshot.metadata
    assert (metadata["processes"], metadata["tasks"], metadata["execs"]) == (4, 5, 1)
    assert metadata["zero_pages"] >= 1
    assert metadata["shared_pages"] == sum(len(who) > 1 for _, who in there.sharers)
    assert set(metadata["guessed"]) == {"vmas_kept_apart"}
    assert metadata["dropped"] == {}
    assert [len(task.tids) for task in snapshot.tasks] == [1, 1, 1, 2]


def test_what_follows_goes_on_from_there(tree: Tree, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    with attach(str(tree.pid)) as held:
        snapshot = take(held.pids)
        before = attached.read(held.pids)
        recording = backend("perf").start(Target(held.pids, held.cgroup.name), Settings(tmp_path))
        held.thaw()
        tree.go(3)
        time.sleep(0.5)
        held.cgroup.freeze()
        living = held.cgroup.pids()
        there = attached.read(living)
        captured = recording.stop()
    options = ImportOptions(kernel=host.kernel_release(), thp=host.thp_enabled(), snapshot=snapshot)
    metadata = importer("perf").run(captured.text, out, options)
    assert metadata["lost"] == captured.lost == 0
    assert metadata["attached"]["processes"] == 4
    assert metadata["rows"] > metadata["attached"]["rows"] > 0
    assert metadata["time"]["first"] == metadata["attached"]["time"]
    assert before.sharers != there.sharers

    replay, anomalies = attached.replayed(read_trace(out), living)
    assert anomalies == {}
    assert replay.vmas == there.vmas
    assert replay.sharers == there.sharers


def test_the_command(
    tree: Tree,
    tmp_path: Path,
    cli_program: Path,
    trace: Any,
    replayed: Callable[[], dict[str, Any]],
) -> None:
    before = home(tree.pid)
    capture = subprocess.Popen(
        [str(cli_program), "capture", "--attach", str(tree.pid), "-o", str(tmp_path / "x.parquet")],
        stderr=subprocess.PIPE,
        text=True,
    )
    place = cgroup.mount()
    assert place
    end = time.monotonic() + 20
    while (
        home(tree.pid) == before
        or "1" in place.joinpath(home(tree.pid).lstrip("/"), "cgroup.freeze").read_text()
    ):
        assert time.monotonic() < end
        time.sleep(0.01)
    tree.go(5)
    assert tree.end() == 0
    _, errors = capture.communicate(timeout=60)
    assert capture.returncode == 0, errors
    assert "0 lost" in errors

    rows = pl.read_parquet(tmp_path / "x.parquet").with_columns(pl.col("op").cast(pl.String))
    metadata = trace().metadata
    snapshot = metadata["attached"]["rows"]
    assert rows["time"][:snapshot].unique().to_list() == [metadata["attached"]["time"]]
    later = rows[snapshot:]
    assert later["time"].min() > metadata["attached"]["time"]
    assert len(later.filter(pl.col("op") == "fork")) == 2
    assert len(later.filter(pl.col("op") == "exit")) == 7  # six processes, one with a thread
    assert metadata["processes_alive"] == 0
    summary = replayed()
    assert sum(summary["anomalies"].values()) == 0
    assert summary["models"]["anon_vma"]["objects"]["anon_vma"]["live"] == 0


def test_all_go_on_where_they_were(tree: Tree) -> None:
    before = {pid: home(pid) for pid in tree.alive()}
    with attach(str(tree.pid)) as held:
        inside = {home(pid) for pid in held.pids}
        assert inside == {held.cgroup.name}
        assert Path(held.cgroup.path, "cgroup.events").read_text().count("frozen 1") == 1
        held.thaw()
        assert held.stood_still > 0
        tree.go(1)
    assert {pid: home(pid) for pid in tree.alive()} == {
        pid: before.get(pid, before[tree.pid]) for pid in tree.alive()
    }
    assert not ours()
    tree.go(5)
    assert tree.end() == 0


def test_an_error_inside_leaves_nothing(tree: Tree) -> None:
    before = home(tree.pid)
    with pytest.raises(RuntimeError, match="within"), attach(str(tree.pid)):
        raise RuntimeError("within")
    assert home(tree.pid) == before
    assert not ours()
    tree.go(6)
    assert tree.end() == 0


def test_a_killed_capture_leaves_nobody_frozen(tree: Tree) -> None:
    before = home(tree.pid)
    program = (
        "import os, signal, sys\n"
        "from rmapreplay.traces.capture.attach import attach\n"
        "with attach(sys.argv[1]) as held:\n"
        "    print(held.cgroup.path, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tree.pid)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    made = Path(done.stdout.strip())
    end = time.monotonic() + 20
    while made.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert home(tree.pid) == before
    tree.go(6)
    assert tree.end() == 0


def test_a_cgroup(tree: Tree) -> None:
    group = cgroup.Cgroup.make()
    try:
        for pid in tree.alive():
            group.add(pid)
        with attach(group.name) as held:
            assert held.cgroup.path == group.path
            assert held.pids == tuple(tree.alive())
            assert Path(group.path, "cgroup.freeze").read_text() == "1\n"
        assert Path(group.path, "cgroup.freeze").read_text() == "0\n"
        assert group.pids() == tree.alive()

        group.freeze()
        with pytest.raises(CaptureError, match="is frozen already"), attach(group.name):
            pass
        assert Path(group.path, "cgroup.freeze").read_text() == "1\n"
    finally:
        group.remove()


def standing(program: Path, tmp_path: Path, processes: int) -> Iterator[list[int]]:
    """The processes of a program that makes so many, which print a line each and wait."""
    process = subprocess.Popen([program], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    try:
        yield [int(process.stdout.readline()) for _ in range(processes)]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def snapshot_of_group(pids: list[int], read: list[int]) -> tuple[Snapshot, attached.State, Any]:
    """A snapshot of processes in a cgroup of theirs, and what those to be read have mapped."""
    group = cgroup.Cgroup.make()
    try:
        for pid in pids:
            group.add(pid)
        with attach(group.name) as held:
            snapshot = take(held.pids)
            there = attached.read(read)
        return snapshot, there, trace_of(snapshot)
    finally:
        group.remove()


SHARED_MEMORY: Final = """
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void *thread(void *unused) { pause(); return unused; }
static int child(void *unused) { pause(); return !unused; }
int main(void) {
    char *stack = malloc(65536);
    pthread_t one, two;
    pthread_create(&one, NULL, thread, NULL);
    pthread_create(&two, NULL, thread, NULL);
    int pid = clone(child, stack + 65536, CLONE_VM | SIGCHLD, NULL);
    printf("%d\\n%d\\n", getpid(), pid);
    fflush(stdout);
    pthread_exit(NULL);
}
"""


def test_tasks_that_share_memory(perf: None, compiled: Any, tmp_path: Path) -> None:
    """A leader that has exited before its threads, and a process that CLONE_VM made."""
    for pids in standing(compiled(SHARED_MEMORY, "-pthread"), tmp_path, 2):
        time.sleep(0.2)
        snapshot, there, trace = snapshot_of_group(pids, pids[1:])
    parent, child = snapshot.tasks
    assert (parent.pid, child.pid) == tuple(pids)
    assert (len(parent.tids), parent.mm_of) == (2, 0)
    assert parent.pid not in parent.tids
    assert (child.tids, child.mm_of) == ((child.pid,), parent.pid)
    replay, anomalies = attached.replayed(trace, [child.pid])
    assert anomalies == {}
    assert replay.sharers == there.sharers
    rows = pl.from_arrow(pa.Table.from_batches(list(snapshot.rows())))
    assert isinstance(rows, pl.DataFrame)
    rows = rows.with_columns(pl.col("op").cast(pl.String))
    forks = rows.filter(pl.col("op") == "fork")
    assert forks["flags"].to_list() == [0x100, 0x10900, 0x10900]
    assert rows.filter(pl.col("op") == "exit")["pid"].to_list() == [parent.pid]


SPECIAL_PAGES: Final = """
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
enum { PAGE = 4096, HUGE = 2 << 20 };
int main(void) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char *area = mmap(NULL, 4 * HUGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    char *huge = (char *)(((uintptr_t)area + HUGE - 1) & -(uintptr_t)HUGE);
    madvise(huge, HUGE, MADV_HUGEPAGE);
    huge[0] = 1;
    area[3 * HUGE + 5 * PAGE] = 1;
    char *guarded = mmap(NULL, 9 * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    guarded[8 * PAGE] = 1;
    madvise(guarded, 2 * PAGE, 102);
    char *locked = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    mlock(locked, 3 * PAGE);
    if (fork() == 0 && fork() > 0)
        _exit(0);
    area[3 * HUGE + 5 * PAGE] = 2;
    printf("%d\\n", getpid());
    fflush(stdout);
    pause();
}
"""


def test_huge_pages_guards_and_an_orphan(perf: None, compiled: Any, tmp_path: Path) -> None:
    """The parent of one process has exited, and it lives on beside its grandparent."""
    for pids in standing(compiled(SPECIAL_PAGES), tmp_path, 2):
        snapshot, there, trace = snapshot_of_group(pids, pids)
    replay, anomalies = attached.replayed(trace, sorted(pids))
    assert anomalies == {}
    assert replay.vmas == there.vmas
    assert replay.sharers == there.sharers
    metadata = snapshot.metadata
    assert metadata["execs"] == 1
    assert metadata["guessed"]["parent_of_orphan"] == 1
    rows = pl.from_arrow(pa.Table.from_batches(list(snapshot.rows())))
    assert isinstance(rows, pl.DataFrame)
    if host.thp_enabled() != "never":
        assert rows.filter(pl.col("order") == 9).height == 1
    if metadata["guard_pages"]:  # before Linux 6.15 pagemap does not tell
        assert metadata["guard_pages"] == 2 * 2
        assert rows.filter(pl.col("advice") == 102).height == 2


@pytest.mark.parametrize(
    ("seed", "kind"), [(1, ""), (2, ""), (3, ""), (5, ""), (7, ""), (1, "huge"), (4, "huge")]
)
def test_any_processes(perf: None, compiled: Any, seed: int, kind: str) -> None:
    """VMAs and pages are always as they were; of the sharing something may be missing, which is
    counted, but there is never more of it."""
    program = compiled(MONKEY.read_text())
    arguments = [program, str(seed), *([kind] if kind else [])]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        group = cgroup.Cgroup.make()
        for pid in session(process.pid):
            group.add(pid)
        with attach(group.name) as held:
            snapshot = take(held.pids)
            there = attached.read(held.pids)
        group.remove()
    finally:
        process.kill()
        process.wait()
    replay, anomalies = attached.replayed(trace_of(snapshot), held.pids)
    assert anomalies == {}
    assert replay.vmas == there.vmas
    pages = {(at, pid) for at, who in there.sharers for pid in who}
    assert {(at, pid) for at, who in replay.sharers for pid in who} == pages
    groups: dict[int, list[frozenset[int]]] = {}
    for at, who in there.sharers:
        groups.setdefault(at, []).append(who)
    copies = replay.sharers - there.sharers
    assert all(any(who <= group for group in groups[at]) for at, who in copies)
    missed = len(there.sharers - replay.sharers)
    assert missed <= snapshot.metadata["guessed"].get("sharing_not_expressed", 0)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("999999999", "no such process"),
        ("2", "a thread of the kernel"),
        ("/no/such/cgroup", "no such cgroup"),
        (str(os.getppid()), "this program is a descendant of that process"),
        (str(os.getpid()), "this program is a descendant of that process"),
    ],
    ids=["no-process", "kernel", "no-cgroup", "parent", "self"],
)
def test_refused(perf: None, target: str, says: str) -> None:
    with pytest.raises(CaptureError, match=says), attach(target):
        pass
    assert not ours()
