# SPDX-License-Identifier: GPL-2.0-only
"""The text of a perf.data: our own filter against perf's own printing of a real recording, formats
that the filter is not told of, and how perf fails."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from rmapreplay.traces.capture.perf import formats as perf_formats
from rmapreplay.traces.capture.perf import script as perf_script
from rmapreplay.traces.capture.perf.script import PerfScript
from rmapreplay.traces.errors import CaptureError

EVENTS = {
    "raw_syscalls:sys_enter": "id == 9 || id == 10 || id == 11 || id == 59",
    "raw_syscalls:sys_exit": "id == 9 || id == 10 || id == 11 || id == 59",
    "task:task_newtask": "",
    "sched:sched_process_exec": "",
    "sched:sched_process_exit": "",
    "mmap:exit_mmap": "",
    "exceptions:page_fault_user": "",
    "exceptions:page_fault_kernel": "",
    "mmap_lock:mmap_lock_acquire_returned": "write == 1",
    "mmap_lock:mmap_lock_released": "write == 1",
    "kmem:kmem_cache_alloc": 'name == "anon_vma_chain" || name == "vm_area_struct"',
    "kmem:kmem_cache_free": 'name == "anon_vma_chain" || name == "vm_area_struct"',
}
# Names with blanks and per cents, a failed exec, and faults at address 0.
WORKLOAD = """\
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(15, b"a b: %s \\xff", 0, 0, 0)
subprocess.run([sys.argv[1], "-c", "for i in 1 2 3 4 5 6 7 8; do (:); done"])
if os.fork() == 0:
    os.execv(sys.argv[1] + " none", ["none"]) if os.fork() == 0 else ctypes.string_at(0)
os.wait()
"""


def squeezed(text: bytes) -> list[bytes]:
    return [line.strip(b" ") for line in re.sub(rb" +", b" ", text).split(b"\n")]


def text_of(script: PerfScript) -> bytes:
    return b"".join(script.chunks())


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A perf.data of all kinds of events that a capture records."""
    if shutil.which("perf") is None or os.geteuid() != 0:
        pytest.skip("perf cannot record here: it takes perf, and root")
    place = tmp_path_factory.mktemp("perf")
    shell = place / "a shell"
    shell.symlink_to("/bin/sh")
    options = []
    for event, condition in EVENTS.items():
        options += ["-e", event, *(["--filter", condition] if condition else [])]
    data = place / "perf.data"
    subprocess.run(
        [
            *("perf", "record", "-q", "-a", "-d", "-N", "-B", "-m", "4M", "-o", str(data)),
            *("--clockid", "mono", *options, "--", sys.executable, "-c", WORKLOAD, str(shell)),
        ],
        check=True,
        capture_output=True,
    )
    return data


def test_filter_prints_what_perf_prints(recording: Path) -> None:
    plain = text_of(PerfScript(recording, use_filter=False))
    script = PerfScript(recording)
    filtered = text_of(script)
    assert script.filtered
    assert squeezed(filtered) == squeezed(plain)
    assert script.messages == ()
    for event in EVENTS:
        # perf fills up with blanks; the filter did not leave one event to it.
        lines = re.findall(rb"^.* +%s: .*$" % event.encode(), filtered, re.MULTILINE)
        assert lines
        assert not [line for line in lines if re.match(rb" |.*:  ", line)]
    for wanted in (b"comm=a b: %s", b"/a shell pid=", b"address=0x0 ", b"NR 59 = -2\n"):
        assert wanted in filtered


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda told: [], id="nothing told"),
        pytest.param(
            lambda told: [re.sub(r"\t(\w)\d+\.", r"\t\g<1>60000.", one) for one in told],
            id="offsets beyond the data",
        ),
    ],
)
def test_what_the_filter_cannot_print_is_left_to_perf(
    recording: Path, monkeypatch: pytest.MonkeyPatch, spoil: object
) -> None:
    plain = text_of(PerfScript(recording, use_filter=False))
    assert callable(spoil)
    monkeypatch.setattr(
        perf_script, "filter_arguments", lambda data: spoil(perf_formats.filter_arguments(data))
    )
    script = PerfScript(recording)
    assert text_of(script) == plain
    assert script.filtered


@pytest.mark.parametrize("damage", ["no library", "not told well"])
def test_without_the_filter_if_it_does_not_load(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    plain = text_of(PerfScript(recording, use_filter=False))
    if damage == "no library":
        monkeypatch.setattr(perf_script, "_FILTER", tmp_path / "none.so")
        tmp_path.joinpath("none.so").write_text("no library")
    else:
        monkeypatch.setattr(perf_script, "filter_arguments", lambda data: ["1\taddress=\tz1.1\t"])
    script = PerfScript(recording)
    assert text_of(script) == plain
    assert not script.filtered


def test_a_consumer_that_stops_early_leaves_no_process(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen[bytes]):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    chunks = PerfScript(recording).chunks()
    assert next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert [process.returncode is None for process in started] == [False]


def test_the_environment_does_not_matter(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = text_of(PerfScript(recording))
    config = tmp_path / ".perfconfig"
    config.write_text("[core]\n\tproc-map-timeout = x y z\n[script\n")
    monkeypatch.setenv("PERF_CONFIG", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PAGER", "false")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert text_of(PerfScript(recording)) == plain


# ---- files and programs that fail ----


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "zero-sized data"),
        (b"7/7 [000] 1.0: task:task_newtask: pid=8\n" * 99, "incompatible file format$"),
        (None, "No such file or directory"),
    ],
)
def test_not_a_perf_data(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if shutil.which("perf") is None:
        pytest.skip("perf is not installed")
    data = tmp_path / "x.data"
    if content is not None:
        data.write_bytes(content)
    with pytest.raises(CaptureError, match=f"^{data}: perf script failed with status .*{reason}"):
        text_of(PerfScript(data))


def test_truncated_perf_data(recording: Path, tmp_path: Path) -> None:
    whole = recording.read_bytes()
    for size in (len(whole) // 2, 200, 50):
        data = tmp_path / f"{size}.data"
        data.write_bytes(whole[:size])
        with pytest.raises(CaptureError, match="perf script failed with status"):
            text_of(PerfScript(data))


def test_perf_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CaptureError, match=r"perf cannot be run \(No such file .*apt install"):
        text_of(PerfScript(tmp_path / "x.data"))


@pytest.fixture
def fake_perf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shell script in place of perf, to be written by the test."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program = tmp_path / "perf"
    program.touch(0o755)
    return program


def test_a_perf_without_filters(fake_perf: Path, tmp_path: Path) -> None:
    fake_perf.write_text(
        '#!/bin/sh\ncase "$*" in *--dlfilter*) echo "Error: unknown option" >&2; exit 129;; esac\n'
        'echo "$2" text\n'
    )
    script = PerfScript(tmp_path / "x.data")
    assert text_of(script) == f"--input={tmp_path}/x.data text\n".encode()
    assert not script.filtered


def test_what_perf_says(fake_perf: Path, tmp_path: Path) -> None:
    fake_perf.write_text(
        "#!/bin/sh\necho text\n"
        "echo \"'trace' not valid for hardware events. Ignoring.\" >&2\n"
        'printf "Processed 10 events and lost 2 chunks!\\n\\nCheck IO/CPU overload!\\n" >&2\n'
    )
    script = PerfScript(tmp_path / "x.data")
    assert text_of(script) == b"text\n"
    assert script.messages == ("Processed 10 events and lost 2 chunks!", "Check IO/CPU overload!")


def test_a_perf_that_fails_after_some_text(fake_perf: Path, tmp_path: Path) -> None:
    """It is not asked again: the text would be there twice."""
    fake_perf.write_text("#!/bin/sh\necho text\necho first >&2\necho last >&2\nexit 3\n")
    chunks = PerfScript(tmp_path / "x.data").chunks()
    assert next(chunks) == b"text\n"
    with pytest.raises(CaptureError, match=r"x.data: perf script failed with status 3: last$"):
        next(chunks)


# ---- formats ----

COMMON = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n"


def told_of(tmp_path: Path, fields: str, text: str) -> list[str]:
    """What the filter is told of a tracepoint with number 7."""
    form = f"name: x\nID: 7\nformat:\n{COMMON}{fields}\nprint fmt: {text}\n".encode()
    size = struct.pack("<Q", len(form))
    records = bytes(16)
    data = tmp_path / "formats.data"
    tracing_data = 104 + len(records) + 16
    data.write_bytes(
        struct.pack("<8s12Q", b"PERFILE2", 104, 144, 0, 0, 104, 16, 0, 0, 0b10, 0, 0, 0)
        + records
        + struct.pack("<2Q", tracing_data, len(size + form))
        + size
        + form
    )
    return perf_formats.filter_arguments(data)


NUMBER = "\tfield:int n;\toffset:8;\tsize:4;\tsigned:1;\n"
LONG = "\tfield:unsigned long n;\toffset:8;\tsize:8;\tsigned:0;\n"
ARRAY = "\tfield:u64 n[3];\toffset:8;\tsize:24;\tsigned:0;\n"
COMM = "\tfield:char n[16];\toffset:8;\tsize:16;\tsigned:0;\n"
NAME = "\tfield:__data_loc char[] n;\toffset:8;\tsize:4;\tsigned:0;\n"
BOOL = "\tfield:bool n;\toffset:8;\tsize:1;\tsigned:0;\n"
FLAGS = '(REC->n) ? __print_flags(REC->n, "|", {( unsigned long)(((( gfp_t)((((1UL))) << (5)))'
FLAGS += (
    '|(( gfp_t)1)) & ~(1UL)), "A"}, {( unsigned long)0x40, "B_C"}, { 0, ((void *)0) } ) : "none"'
)


@pytest.mark.parametrize(
    ("fields", "text", "parts"),
    [
        (NUMBER, '"n=%d", REC->n', ["n=", "d8.4", ""]),
        (NUMBER, '"%d, n, %u", REC->n, REC->n', ["", "d8.4", ", n, ", "u8.4", ""]),
        (LONG, '"n=0x%lx end", REC->n', ["n=0x", "x8.8", " end"]),
        (LONG, '"n=%ps %pS %p", (void *)REC->n, (void *)REC->n, REC->n',
         ["n=", "s8.8", " ", "S8.8", " ", "p8.8", ""]),
        (ARRAY, '"%llx %llx", REC->n[0], REC->n[2]', ["", "x8.8", " ", "x24.8", ""]),
        (COMM, '"%s", REC->n', ["", "t8.16", ""]),
        (NAME, '"%s", __get_str(n)', ["", "l8.4", ""]),
        (BOOL, '"%s", REC->n ? "true" : "false"', ["", "b8.1", ""]),
        (LONG, f'"f=%s", {FLAGS}', ["f=", "f8.8:A=20|B_C=40", ""]),
        (NUMBER, '"nothing"', ["nothing"]),
    ],
)  # fmt: skip
def test_formats(tmp_path: Path, fields: str, text: str, parts: list[str]) -> None:
    assert told_of(tmp_path, fields, text) == ["\t".join(["7", *parts])]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (NUMBER, '"n=%08d", REC->n'),
        (NUMBER, '"n=%ld", REC->n'),  # of another size
        (NUMBER, '"n=%d", REC->m'),
        (NUMBER, '"n=%d %d", REC->n'),
        (NUMBER, '"n=%d", REC->n, REC->n'),
        (NUMBER, '"n=%d", REC->n + 1'),
        (NUMBER, '"n=%s", REC->n'),
        (NUMBER, '"n=%d%%", REC->n'),
        (NUMBER, '"n=\\"%d\\"", REC->n'),
        (LONG, '"n=%pK", REC->n'),
        (LONG, '"n=%s", REC->n'),
        (ARRAY, '"n=%llx", REC->n'),
        (COMM, '"n=%s", __get_str(n)'),
        (BOOL, '"%s", REC->n ? "yes" : "no"'),
        (LONG, f'"f=%s", {FLAGS.replace("0x40", "A")}'),
        (LONG, f'"f=%s", {FLAGS.replace("0x40", "1 << (1 << 30)")}'),
        (NUMBER, '"n=%d " "and more", REC->n'),
    ],
)
def test_formats_that_are_left_to_perf(tmp_path: Path, fields: str, text: str) -> None:
    assert told_of(tmp_path, fields, text) == []
