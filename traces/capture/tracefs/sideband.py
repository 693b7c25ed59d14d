# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel tells through perf_event_open(2) of every mapping that is made, those of execve
included: records that tracefs has no event for. The program perf is not needed for it."""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

# include/uapi/linux/perf_event.h
_SYS_PERF_EVENT_OPEN: Final = 298
_FLAG_FD_CLOEXEC: Final = 8
_TYPE_SOFTWARE: Final = 1
_COUNT_SW_DUMMY: Final = 9
_SAMPLE_TID: Final = 1 << 1
_SAMPLE_TIME: Final = 1 << 2
_BITS: Final = {
    "mmap": 8,
    "comm": 9,
    "mmap_data": 17,
    "sample_id_all": 18,
    "mmap2": 23,
    "comm_exec": 24,
    "use_clockid": 25,
}
_ATTR: Final = struct.Struct("<IIQQQQQIIQQQQIiQII")
_RECORD_LOST: Final = 2
_RECORD_COMM: Final = 3
_RECORD_MMAP2: Final = 10
_MISC_COMM_EXEC: Final = 1 << 13
_HEADER: Final = struct.Struct("<IHH")
_MMAP2: Final = struct.Struct("<IIQQQIIQQII")
_ID: Final = struct.Struct("<IIQ")
# struct perf_event_mmap_page, in words
_DATA_HEAD: Final = 1024 // 8
_DATA_TAIL: Final = 1032 // 8

_MAP_SHARED: Final = 1
_RING_BYTES: Final = 1 << 20

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Sideband:
    """Records of all CPUs, kept in files `records.N` of a directory until lines() makes text of
    them. Times are those of the clock `mono`."""

    def __init__(self, directory: Path) -> None:
        """Begins to record. Raises OSError if the kernel does not let us."""
        self._cpus: list[_Cpu] = []
        try:
            for number in _online_cpus():
                self._cpus.append(_Cpu(number, directory / f"records.{number}"))
        except BaseException:
            self.close()
            raise

    def drain(self) -> None:
        """To be called often enough that the buffers do not run over. Raises OSError if a file
        cannot be written."""
        for cpu in self._cpus:
            cpu.drain()

    def close(self) -> None:
        """End recording."""
        for cpu in self._cpus:
            cpu.close()

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Time in ns and text, as perf script has it, of each record in order of time. Of names
        that a task takes only those are told that an exec gave it."""
        return heapq.merge(*(cpu.lines() for cpu in self._cpus))


class _Cpu:
    def __init__(self, number: int, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = path.open("wb", buffering=0)
        self._descriptor = -1
        self._tail = 0
        try:
            descriptor = _open_event(number)
            try:
                self._map = mmap.mmap(descriptor, mmap.PAGESIZE + _RING_BYTES)
            except BaseException:
                os.close(descriptor)
                raise
        except BaseException:
            self.close()
            raise
        self._descriptor = descriptor
        self._words = memoryview(self._map).cast("Q")

    def drain(self) -> None:
        if self._file is None:
            return
        head = self._words[_DATA_HEAD]
        while self._tail < head:
            at = self._tail % _RING_BYTES
            part = min(head - self._tail, _RING_BYTES - at)
            begin = mmap.PAGESIZE + at
            self._file.write(self._map[begin : begin + part])
            self._tail += part
        self._words[_DATA_TAIL] = head

    def close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self.drain()
            self._words.release()
            self._map.close()
            os.close(self._descriptor)
            self._descriptor = -1
        if self._file:
            self._file.close()
            self._file = None

    def lines(self) -> Iterator[tuple[int, bytes]]:
        with self._path.open("rb") as file:
            while len(head := file.read(_HEADER.size)) == _HEADER.size:
                kind, misc, size = _HEADER.unpack(head)
                body = file.read(size - _HEADER.size)
                pid, tid, ns = _ID.unpack_from(body, len(body) - _ID.size)
                if text := _text(kind, misc, body):
                    when = b"%d/%d %d.%09d: " % (pid, tid, *divmod(ns, 10**9))
                    yield ns, when + text + b"\n"


def _open_event(cpu: int) -> int:
    attr = bytearray(
        _ATTR.pack(
            *(_TYPE_SOFTWARE, _ATTR.size, _COUNT_SW_DUMMY, 0, _SAMPLE_TID | _SAMPLE_TIME, 0),
            sum(1 << bit for bit in _BITS.values()),
            *(0, 0, 0, 0, 0, 0, 0),
            time.CLOCK_MONOTONIC,
            *(0, 0, 0),
        )
    )
    pointer = (ctypes.c_char * len(attr)).from_buffer(attr)
    after = map(ctypes.c_long, (-1, cpu, -1, _FLAG_FD_CLOEXEC))
    descriptor: int = _libc.syscall(ctypes.c_long(_SYS_PERF_EVENT_OPEN), pointer, *after)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "perf_event_open")
    return descriptor


def _text(kind: int, misc: int, body: bytes) -> bytes | None:
    """What stands behind the time in a line of perf script."""
    if kind == _RECORD_LOST:
        (count,) = struct.unpack_from("<Q", body, 8)
        return b"PERF_RECORD_LOST lost %d" % count
    if kind == _RECORD_COMM and misc & _MISC_COMM_EXEC:
        pid, tid = struct.unpack_from("<II", body)
        name = body[8 : -_ID.size].partition(b"\0")[0].replace(b"\n", b"?")
        return b"PERF_RECORD_COMM exec: %s:%d/%d" % (name, pid, tid)
    if kind != _RECORD_MMAP2:
        return None
    pid, tid, addr, length, offset, major, minor, inode, generation, prot, flags = (
        _MMAP2.unpack_from(body)
    )
    name = body[_MMAP2.size : -_ID.size].partition(b"\0")[0].replace(b"\n", b"?")
    perms = bytes(letter if prot & 1 << bit else ord("-") for bit, letter in enumerate(b"rwx"))
    shared = b"s" if flags & _MAP_SHARED else b"p"
    return b"PERF_RECORD_MMAP2 %d/%d: [%#x(%#x) @ %#x %02x:%02x %d %d]: %s%s %s" % (
        *(pid, tid, addr, length, offset, major, minor, inode, generation),
        *(perms, shared, name),
    )


def _online_cpus() -> Iterator[int]:
    """Of "0-3,5"."""
    for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
