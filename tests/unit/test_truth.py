# SPDX-License-Identifier: GPL-2.0-only
"""The truth sidecar: written, read back, and refused where it does not fit."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rmapreplay.traces.errors import RmapReplayError, TraceFormatError
from rmapreplay.traces.snapshots import SNAPSHOT_SCHEMA, SnapshotArchive
from rmapreplay.traces.truth import (
    KIND_COLUMNS,
    TRUTH_METADATA_KEY,
    TRUTH_SCHEMA,
    TruthWriter,
    answer_keys,
    read_truth,
    truth_path,
)

MAPS = """== pid 116
00400000-00401000 r--p 00001000 00:03 1246                               /bin/a b
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
7fff00000000-7fff00001000 rw-p 00000000 00:00 0
== pid 117
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""

BURSTS = pa.record_batch(
    {"time": [50, 90], "end_time": [60, 99], "burst": [2, 10], "label": ["x", "y"]}
)


def archive(path: Path, members: dict[str, str]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, text in members.items():
            data = text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_kinds_come_back_apart_and_in_order(tmp_path: Path) -> None:
    visits = pa.record_batch(
        {
            "time": [1, 1, 7],
            "walk": [0, 0, 1],
            "visit": [0, 1, 0],
            "pid": [5, None, 6],
            "start": [4096, 8192, 2**47],
            "end": [8192, 12288, 2**47 + 4096],
            "found": [1, 0, 512],
            "stopped": [False, True, False],
        }
    )
    with TruthWriter(tmp_path / "t.parquet") as writer:
        writer.append("visit", visits.slice(0, 2))
        writer.append("burst", BURSTS)
        writer.append("visit", visits.slice(2))
        writer.append("visit", visits.slice(0, 0))
    truth = read_truth(tmp_path / "t.parquet")
    assert truth.visits.columns == list(KIND_COLUMNS["visit"])
    assert truth.visits.rows() == list(
        zip(*(visits.column(name).to_pylist() for name in truth.visits.columns), strict=True)
    )
    assert truth.bursts.rows() == [(50, 60, 2, "x"), (90, 99, 10, "y")]
    for frame in (truth.objects, truth.snapshots, truth.allocations):
        assert frame.is_empty()
    assert truth.metadata["rows"] == {
        **dict.fromkeys(KIND_COLUMNS, 0),
        "visit": 3,
        "burst": 2,
    }


def test_every_column_belongs_to_a_kind() -> None:
    used = {name for columns in KIND_COLUMNS.values() for name in columns}
    assert used | {"kind"} == set(TRUTH_SCHEMA.names)


def test_where_it_is(tmp_path: Path) -> None:
    assert truth_path("a/b.parquet") == Path("a/b.truth.parquet")
    assert truth_path("a/b") == Path("a/b.truth.parquet")
    with TruthWriter(tmp_path / "t.parquet"):
        pass
    assert read_truth(tmp_path / "t.truth.parquet").path == read_truth(tmp_path / "t.parquet").path


def test_nothing_is_left_of_a_sidecar_whose_trace_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), TruthWriter(tmp_path / "t.parquet") as writer:
        writer.append("burst", BURSTS)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_snapshots_take_the_time_of_their_burst(tmp_path: Path) -> None:
    tar = archive(
        tmp_path / "r.aux.tar",
        {"out/maps.10.txt": "== pid 3\n", "other.txt": "?", "maps.2.txt": MAPS},
    )
    with TruthWriter(tmp_path / "t.parquet") as writer:
        writer.append("burst", BURSTS)
        writer.add_answer_keys([tar])
    truth = read_truth(tmp_path / "t.parquet")
    assert truth.snapshots.rows() == [
        (50, 2, 116, 0x400000, 0x401000, "r--p", 0x1000, "/bin/a b"),
        (50, 2, 116, 0x7FFD00000000, 0x7FFD00021000, "rw-p", 0, "[stack]"),
        (50, 2, 116, 0x7FFF00000000, 0x7FFF00001000, "rw-p", 0, None),
        (50, 2, 117, 0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, "--xp", 0, "[vsyscall]"),
    ]
    assert truth.metadata["sources"] == ["r.aux.tar"]


def test_snapshots_come_in_order_of_burst(tmp_path: Path) -> None:
    tar = archive(tmp_path / "r.tar", {"maps.10.txt": MAPS, "maps.2.txt": MAPS})
    batches = list(SnapshotArchive(tar).batches({2: 50, 10: 90}))
    assert [batch.schema for batch in batches] == [SNAPSHOT_SCHEMA] * 2
    assert [batch["burst"][0].as_py() for batch in batches] == [2, 10]


def test_the_kernel_is_in_its_log(tmp_path: Path) -> None:
    log = "[    0.000000] Linux version 7.3.4+deb13-cloud-amd64 (who) #1\n"
    assert SnapshotArchive(archive(tmp_path / "a.tar", {"dmesg.txt": log})).kernel() == (
        "7.3.4+deb13-cloud-amd64"
    )
    assert SnapshotArchive(archive(tmp_path / "b.tar", {"maps.1.txt": MAPS})).kernel() is None


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"maps.3.txt": MAPS}, "maps.3.txt: the trace has no burst 3 of walks: of another run?"),
        ({"maps.2.txt": "== pid 1\nwhat\n"}, "maps.2.txt, line 2: not a line of /proc/PID/maps"),
        ({"maps.2.txt": "== pid x\n"}, "maps.2.txt, line 1: not a line of /proc/PID/maps"),
    ],
)
def test_archives_that_do_not_fit(tmp_path: Path, members: dict[str, str], reason: str) -> None:
    tar = archive(tmp_path / "r.tar", members)
    with (
        pytest.raises(TraceFormatError) as error,
        TruthWriter(tmp_path / "t.parquet") as writer,
    ):
        writer.append("burst", BURSTS)
        writer.add_answer_keys([tar])
    assert str(error.value) == f"{tar}: {reason}"
    assert not truth_path(tmp_path / "t.parquet").exists()


def test_damaged_and_missing_answer_keys(tmp_path: Path) -> None:
    damaged = tmp_path / "r.tar"
    damaged.write_bytes(b"\x28\xb5\x2f\xfd" + b"x" * 700)
    with pytest.raises(TraceFormatError, match=r"r\.tar: damaged archive"):
        SnapshotArchive(damaged).kernel()
    with (
        pytest.raises(RmapReplayError, match=r"none\.tar: No such file"),
        answer_keys(tmp_path / "t.parquet", [tmp_path / "none.tar"]),
    ):
        pytest.fail("an answer key that is not there was accepted")
    assert [file.name for file in tmp_path.iterdir()] == ["r.tar"]


def test_what_is_not_an_answer_key(tmp_path: Path) -> None:
    with pytest.raises(RmapReplayError, match=r"x\.truth\.parquet: no such file"):
        read_truth(tmp_path / "x.parquet")
    path = tmp_path / "y.truth.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(TraceFormatError, match="not a Parquet file, or truncated"):
        read_truth(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(TraceFormatError, match="not an answer key"):
        read_truth(path)
    footer = {TRUTH_METADATA_KEY: b'{"version": 99}'}
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(footer), path)
    with pytest.raises(TraceFormatError, match="version 99 is newer than this program's, 1"):
        read_truth(path)
