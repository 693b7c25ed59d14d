# SPDX-License-Identifier: GPL-2.0-only
"""What the tracefs backend is made of, as far as that needs no kernel."""

from __future__ import annotations

import struct
from pathlib import Path

from rmapreplay import _native
from rmapreplay.traces.capture.tracefs import sideband
from rmapreplay.traces.capture.tracefs.pipe import TraceText
from rmapreplay.traces.capture.tracefs.probes import probe_table
from rmapreplay.traces.capture.tracefs.sideband import Sideband


def test_the_table_of_probes() -> None:
    table = probe_table()
    assert set(table.calls) == set(_native.recorded_syscall_names())
    assert table.events == [
        "task/task_newtask",
        "sched/sched_process_exec",
        "sched/sched_process_exit",
    ]
    insert = table.probes["avc_ins"]
    assert insert.required
    assert [place.split()[0] for place in insert.places] == [
        "anon_rmap_tree_insert",
        "anon_vma_interval_tree_insert",
    ]
    assert [place.split()[0] for place in table.probes["vma_free"].also] == ["__vm_area_free"]
    assert table.probes["fo_rm"].condition == "map & 1"
    assert not table.probes["av_fork"].required
    # A place is one line: a function and fields, single blanks between.
    for probe in table.probes.values():
        for place in [*probe.places, *probe.also]:
            _, *fields = place.split(" ")
            assert all("=" in field for field in fields), place


def record(kind: int, body: bytes, ns: int, misc: int = 0) -> bytes:
    body += struct.pack("<IIQ", 7, 8, ns)
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


class Recorded(Sideband):
    """As if one CPU's buffers had been read."""

    def __init__(self, directory: Path, *cpus: bytes) -> None:
        self._cpus = []
        for number, data in enumerate(cpus):
            path = directory / f"records.{number}"
            path.write_bytes(data)
            cpu = sideband._Cpu.__new__(sideband._Cpu)
            cpu._path = path
            self._cpus.append(cpu)


def mapping(ns: int, name: bytes, prot: int = 5, flags: int = 2) -> bytes:
    numbers = (7, 8, 0x401000, 0x2000, 0x1000, 0xFE, 1, 4711, 3, prot, flags)
    padded = name + b"\0" * (8 - len(name) % 8)
    return record(10, struct.pack("<IIQQQIIQQII", *numbers) + padded, ns)


def test_records_become_lines_of_perf_script(tmp_path: Path) -> None:
    comm = struct.pack("<II8s", 7, 7, b"new\nname")
    first = mapping(5_000_000_001, b"/bin/x") + record(3, comm, 5_000_000_009, misc=1 << 13)
    second = (
        record(3, comm, 5_000_000_002)  # a name that no exec gave
        + mapping(5_000_000_003, b"/dev/zero", prot=3, flags=1)
        + record(2, struct.pack("<QQ", 1, 12), 5_000_000_004)
    )
    assert [text for _, text in Recorded(tmp_path, first, second).lines()] == [
        b"7/8 5.000000001: PERF_RECORD_MMAP2 7/8: [0x401000(0x2000) @ 0x1000 fe:01 4711 3]: "
        b"r-xp /bin/x\n",
        b"7/8 5.000000003: PERF_RECORD_MMAP2 7/8: [0x401000(0x2000) @ 0x1000 fe:01 4711 3]: "
        b"rw-s /dev/zero\n",
        b"7/8 5.000000004: PERF_RECORD_LOST lost 12\n",
        b"7/8 5.000000009: PERF_RECORD_COMM exec: new?name:7/7\n",
    ]


def test_records_come_before_what_their_task_did_next(tmp_path: Path) -> None:
    lines = [
        b"            bash-8       [000] d....  %4d.000000: page_fault_user: address=0x1 ip=0x1 "
        b"error_code=0x6" % second
        for second in range(1, 40_000)
    ]
    file = tmp_path / "trace.txt"
    file.write_bytes(b"\n".join(lines) + b"\n")
    times = [2 * 10**9 + 5, 20_000 * 10**9 + 5, 39_000 * 10**9 + 5]
    records = Recorded(tmp_path, b"".join(mapping(ns, b"/bin/x") for ns in times))
    source = TraceText(file, records)
    chunks = list(source.chunks())
    assert len(chunks) > 3
    text = b"".join(chunks).splitlines()
    assert text[0] == b"# tracer: nop"
    assert [one for one in text[1:] if b"MMAP2" not in one] == lines
    for ns in times:
        found = next(i for i, one in enumerate(text) if b"%d.000000005: " % (ns // 10**9) in one)
        after = lines[ns // 10**9]  # a second later
        assert found < text.index(after)
    assert list(source.chunks()) == chunks
