# SPDX-License-Identifier: GPL-2.0-only
"""Importers end to end: what they write, what they count, and what they refuse. The parsers' own
rules are tested natively, in tests/native/test_traces_*.cpp."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from rmapreplay import RmapReplayError, TraceFormatError, read_trace
from rmapreplay.traces.importers import FORMATS, ImportOptions, detect, import_capture, importer
from rmapreplay.traces.importers.base import TextFile
from rmapreplay.traces.importers.kmem import KmemReader
from rmapreplay.traces.truth import read_truth, truth_path

PERF = """\
  7/7     [000]     1.000000001:       raw_syscalls:sys_enter: NR 59 (1, 2, 3, 4, 5, 6)
  7/7     [000]     1.000000002: PERF_RECORD_COMM exec: a b:7/7
  7/7     [000]     1.000000003: sched:sched_process_exec: filename=/bin/a pid=7 old_pid=7
  7/7     [000]     1.000000004:        raw_syscalls:sys_exit: NR 59 = 0
  7/7     [000]     1.000000005:       raw_syscalls:sys_enter: NR 9 (0, 2000, 3, 22, ffffffff, 0)
  7/7     [000]     1.000000006: PERF_RECORD_MMAP2 7/7: [0x10000(0x2000) @ 0x10000 00:00 0 0]: \
rw-p //anon
  7/7     [000]     1.000000006:        raw_syscalls:sys_exit: NR 9 = 65536
  7/7     [000]     1.000000007: exceptions:page_fault_user: address=0x10008 ip=0x1 error_code=0x6
"""
STRACE = """\
7 1.000001 execve("/bin/a", ["a"], 0x7ffd /* 39 vars */) = 0
7 1.000002 brk(NULL)       = 0x55581867a000
7 1.000003 exit_group(0)   = ?
7 1.000004 +++ exited with 0 +++
"""
KMEM = """\
  7/7 [000] 1.000000001: kmem:kmem_cache_alloc: call_site=vm_area_alloc+0x1a ptr=0xffff1 \
name=vm_area_struct bytes_req=192 bytes_alloc=192 gfp_flags=GFP_KERNEL node=-1 accounted=true
  7/7 [000] 1.000000009: kmem:kmem_cache_free: call_site=exit_mmap+0x1b7 ptr=0xffff1 \
name=vm_area_struct
"""

# The launcher's child 7 execs, faults in a folio of order 4, and exits.
TRACEFS = "".join(
    f"{comm:>16}-{tid:<7} [000] .....     {time:8}: {event}\n"
    for time, (comm, tid, event) in enumerate(
        [
            ("h1", 5, "tracing_mark_write: H1 START /bin/a"),
            ("h1", 5, "task_newtask: pid=7 comm=h1 clone_flags=4100 oom_score_adj=0"),
            ("h1", 7, "vma_new: (create_init_stack_vma+0x1/0x2 <- vm_area_alloc) mm=0xa1 vma=0xb1"),
            ("h1", 7, "mm_exec: (begin_new_exec+0x4/0xc20) mm=0xa1"),
            ("a", 7, "sched_process_exec: filename=/bin/a pid=7 old_pid=7"),
            ("h1", 5, "tracing_mark_write: H1 ROOTPID 7"),
            ("a", 7, "fault: (handle_mm_fault+0x4/0x300) mm=0xa1 addr=0x5000 flags=0x41"),
            (
                "a",
                7,
                "fo_new: (f+0x4/0x1d0) folio=0xd0 flags=0x48 f1=0x104 vma=0xb1 addr=0x5000",
            ),
            ("a", 7, "faultx: (do_user_addr_fault+0x1/0x2 <- handle_mm_fault) ret=0x0"),
            ("a", 7, "sched_process_exit: comm=a pid=7 prio=120 group_dead=true"),
            ("a", 7, "mm_exit: (exit_mmap+0x4/0x390) mm=0xa1"),
            ("a", 7, "av_unlink: (unlink_anon_vmas+0x4/0x1b0) vma=0xb1"),
            ("a", 7, "vma_free: (vm_area_free+0x4/0xa0) vma=0xb1 start=0x5000 end=0x9000"),
        ],
        1,
    )
)


def write(path: Path, text: str) -> Path:
    if path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(text.encode())
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.zst"])
def test_perf_text_plain_and_compressed(tmp_path: Path, name: str) -> None:
    source, out = write(tmp_path / name, PERF), tmp_path / "a.parquet"
    options = ImportOptions(
        kernel="6.18.44", thp="madvise", stack_limit=1 << 20, command="a", description="test"
    )
    metadata = import_capture(source, out, options=options)
    read = read_trace(out)
    rows = read.frame().select("time", "op", "addr").rows()
    assert rows == [
        (1_000_000_002, "exec", None),
        (1_000_000_006, "mmap", 0x10000),
        (1_000_000_007, "fault", 0x10000),
    ]
    assert read.metadata == metadata | {"schema_version": 2}
    assert metadata["kernel"] == "6.18.44"
    assert metadata["thp"] == {"enabled": "madvise", "use_zero_page": True}
    assert metadata["stack_limit"] == 1 << 20
    assert metadata["tool"] == {"from": "perf", "source": name}
    assert (metadata["command"], metadata["description"]) == ("a", "test")
    assert metadata["lines"] == 8
    assert metadata["lost"] == 0
    assert metadata["dropped"] == {}
    assert metadata["events"]["raw_syscalls:sys_enter"] == 2
    assert metadata["syscalls"] == {"execve": 1, "mmap": 1}
    assert metadata["processes_alive"] == 1
    assert metadata["time"] == {"first": 1_000_000_002, "last": 1_000_000_007}
    assert metadata["lacks"] == []


def test_strace_says_what_it_lacks(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    metadata = import_capture(write(tmp_path / "a.strace", STRACE), out)
    assert metadata["tool"]["from"] == "strace"
    assert "faults" in metadata["lacks"]
    assert metadata["kernel"] is None
    assert metadata["thp"] == {"enabled": None, "use_zero_page": None}
    assert read_trace(out).frame()["op"].to_list() == ["exec", "brk", "exit"]
    assert metadata["processes_alive"] == 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (PERF, "perf"),
        (STRACE, "strace"),
        ("[pid   712] 1.5 brk(NULL) = 0x1000\n", "strace"),
        ("GC Thread#0   723/741   [001]  3.5: task:task_rename: pid=1\n", "perf"),
    ],
)
def test_formats_are_recognized(tmp_path: Path, text: str, name: str) -> None:
    assert detect(write(tmp_path / "a", text)).name == name


def test_each_format_has_an_importer() -> None:
    assert [importer(name).name for name in FORMATS] == list(FORMATS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"hello\nworld\n", "not a capture of a known format (tracefs, perf, strace)"),
        (b"\x28\xb5\x2f\xfd rest", "damaged or truncated zstd data"),
        (b"\x00\xff" * 1000, "not a capture of a known format (tracefs, perf, strace)"),
    ],
)
def test_what_is_no_capture(tmp_path: Path, content: bytes, reason: str) -> None:
    source, out = tmp_path / "a.txt", tmp_path / "a.parquet"
    source.write_bytes(content)
    with pytest.raises(TraceFormatError) as raised:
        import_capture(source, out)
    assert str(raised.value).startswith(f"{source}: {reason}")
    assert "\n" not in str(raised.value)
    assert not out.exists()


def test_truncated_zstd(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt.zst", "".join(PERF + f"# {i}\n" for i in range(20_000)))
    source.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(TraceFormatError, match="damaged or truncated zstd data"):
        import_capture(source, tmp_path / "a.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt.zst"]


def test_wrong_format_asked_for(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", STRACE)
    with pytest.raises(TraceFormatError, match=r"none of 4 lines reads as perf text$"):
        import_capture(source, tmp_path / "a.parquet", source_format="perf")
    with pytest.raises(RmapReplayError, match=r"^no format 'dtrace': one of auto, tracefs, perf"):
        import_capture(source, tmp_path / "a.parquet", source_format="dtrace")


def test_nothing_that_can_be_used(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", PERF.splitlines()[-1] + "\n")
    with pytest.raises(TraceFormatError, match=r"nothing in them can be used: .*before_first_exec"):
        import_capture(source, tmp_path / "a.parquet")


def test_no_source(tmp_path: Path) -> None:
    with pytest.raises(RmapReplayError, match=r"cannot read: No such file or directory$"):
        import_capture(tmp_path / "none", tmp_path / "a.parquet")


def test_an_existing_trace_is_kept_unless_forced(tmp_path: Path) -> None:
    source, out = write(tmp_path / "a.txt", PERF), tmp_path / "a.parquet"
    out.write_bytes(b"mine")
    with pytest.raises(RmapReplayError, match=r"a\.parquet: exists already"):
        import_capture(source, out)
    assert out.read_bytes() == b"mine"
    import_capture(source, out, force=True)
    assert read_trace(out).rows == 3


def test_answer_key_beside_the_trace(tmp_path: Path) -> None:
    """perf's MMAP2 records are one by themselves, strace's text is none."""
    source, out = write(tmp_path / "a.txt", PERF), tmp_path / "a.parquet"
    metadata = import_capture(source, out)
    assert metadata["teardown"] == []
    truth = read_truth(out)
    assert truth.metadata["sources"] == ["a.txt"]
    assert truth.mapped.rows() == [(1_000_000_006, 7, 7, 0x10000, 0x12000)]
    joined = truth.mapped.join(read_trace(out).frame(), on=["time", "pid", "tid"])
    assert joined["op"].to_list() == ["mmap"]
    assert truth.allocations.is_empty()

    key = write(tmp_path / "a.kmem.txt.zst", KMEM)
    import_capture(source, out, options=ImportOptions(truth=(key,)), force=True)
    truth = read_truth(out)
    assert sorted(truth.metadata["sources"]) == ["a.kmem.txt.zst", "a.txt"]
    assert (truth.mapped.height, truth.allocations.height) == (1, 2)

    strace = write(tmp_path / "a.strace", STRACE)
    import_capture(strace, out, options=ImportOptions(truth=(key,)), force=True)
    assert read_truth(out).allocations.height == 2
    assert "teardown" not in import_capture(strace, out, force=True)
    assert not truth_path(out).exists()


def test_what_ends_an_address_space_in_perf_text(tmp_path: Path) -> None:
    text = PERF + (
        "  7/7 [000] 1.000000008: sched:sched_process_exit: comm=a pid=7 prio=120\n"
        "  7/7 [000] 1.000000009: mmap:exit_mmap: mt_mod 0xffff888118c5c500, DESTROY\n"
    )
    out = tmp_path / "a.parquet"
    metadata = import_capture(write(tmp_path / "a.txt", text), out)
    assert metadata["teardown"] == ["exit_mmap"]
    assert read_trace(out).frame()["op"].to_list()[-2:] == ["exit", "exit_mmap"]


@pytest.mark.parametrize("name", ["perf", "strace", "tracefs"])
def test_trace_and_answer_key_come_both_or_neither(tmp_path: Path, name: str) -> None:
    text = {"perf": PERF, "strace": STRACE, "tracefs": TRACEFS}[name]
    source, out = write(tmp_path / "a.txt", text), tmp_path / "a.parquet"
    key = write(tmp_path / "b.txt", STRACE)
    with pytest.raises(TraceFormatError, match="is an allocation of the reverse map"):
        import_capture(source, out, options=ImportOptions(truth=(key,)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_an_answer_key_is_not_replaced_unasked(tmp_path: Path) -> None:
    source, out = write(tmp_path / "a.txt", PERF), tmp_path / "a.parquet"
    truth_path(out).write_bytes(b"mine")
    with pytest.raises(RmapReplayError, match=r"a\.truth\.parquet: exists already"):
        import_capture(source, out)
    assert truth_path(out).read_bytes() == b"mine"
    assert not out.exists()


def test_tracefs_text_tells_what_it_has(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    metadata = import_capture(write(tmp_path / "a.txt", TRACEFS), out)
    assert metadata["teardown"] == ["unmap_vmas", "free_pgtables", "exit_mmap"]
    assert metadata["fault_orders"] is True
    rows = read_trace(out).frame().select("time", "op", "pid", "order").rows()
    assert rows == [
        (5, "exec", 7, None),
        (7, "fault", 7, 4),
        (10, "exit", 7, None),
        (11, "unmap_vmas", 7, None),
        (13, "free_pgtables", 7, None),
        (13, "exit_mmap", 7, None),
    ]
    untold = TRACEFS.replace("flags=0x48 ", "")
    metadata = import_capture(write(tmp_path / "b.txt", untold), tmp_path / "b.parquet")
    assert metadata["fault_orders"] is False
    assert read_trace(tmp_path / "b.parquet").frame()["order"].null_count() == 6


def test_allocations_read_as_batches(tmp_path: Path) -> None:
    reader = KmemReader(TextFile(write(tmp_path / "a.kmem.txt", KMEM)))
    rows = pa.Table.from_batches(list(reader)).to_pylist()
    assert [(r["object"], r["action"], r["id"], r["site"]) for r in rows] == [
        ("vm_area_struct", "alloc", 1, "vm_area_alloc"),
        ("vm_area_struct", "free", 1, "exit_mmap"),
    ]
    assert reader.counts == {"lines": 2, "rows": 2, "live": 0, "lost": 0, "dropped": {}}


def test_an_answer_key_that_lost_events_counts_as_lost(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    lost = "  0/0 [001] 1.000000005: PERF_RECORD_LOST lost 3\n"
    key = write(tmp_path / "a.kmem.txt", KMEM + lost)
    for name, text in [("perf", PERF), ("strace", STRACE), ("tracefs", TRACEFS)]:
        source = write(tmp_path / f"a.{name}", text)
        options = ImportOptions(truth=(key,), lost=4)
        metadata = import_capture(source, out, options=options, force=True)
        assert metadata["lost"] == 7, name
        assert read_truth(out).metadata["lost"] == 3


def test_progress_is_told(tmp_path: Path) -> None:
    seen: list[int] = []
    source = write(tmp_path / "a.txt", PERF)
    options = ImportOptions(progress=seen.append)
    import_capture(source, tmp_path / "a.parquet", options=options)
    assert seen[-1] == len(PERF)
