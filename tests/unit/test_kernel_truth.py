# SPDX-License-Identifier: GPL-2.0-only
"""make kernel-truth, as far as it goes without booting a kernel."""

from __future__ import annotations

import io
import lzma
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from rmapreplay.traces.importers import ImportOptions, import_capture

KERNEL = Path(__file__).parents[1] / "kernel"
PROBES = Path(__file__).parents[2] / "traces/capture/tracefs/probes.txt"


@pytest.fixture(scope="module", autouse=True)
def _beside_the_driver() -> Iterator[None]:
    """Its modules import each other by their plain names."""
    sys.path.insert(0, str(KERNEL))
    yield
    sys.path.remove(str(KERNEL))


@pytest.fixture
def kernels() -> ModuleType:
    import kernels

    return kernels


def unpacked(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and contents of each member of a cpio archive."""
    members = {}
    at = 0
    while True:
        magic, fields = archive[at : at + 6], archive[at + 6 : at + 110]
        assert magic == b"070701"
        mode, size, name_size = (int(fields[i : i + 8], 16) for i in (8, 48, 88))
        name = archive[at + 110 : at + 109 + name_size].decode()
        data = at + (110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return members
        members[name] = (mode, archive[data : data + size])
        at = data + (size + 3) // 4 * 4


def test_the_initramfs_has_its_directories_before_its_files_and_merges_usr() -> None:
    from initramfs import Tree

    tree = Tree()
    tree.add("/init", b"program", 0o755)
    tree.add("/lib/a.so", b"library")
    tree.add("/usr/lib/b.so", b"another")
    tree.link("/usr/lib/c.so", "b.so")
    file = io.BytesIO()
    tree.write(file)
    members = unpacked(file.getvalue())
    assert members["init"] == (stat.S_IFREG | 0o755, b"program")
    assert members["usr/lib/a.so"] == (stat.S_IFREG | 0o644, b"library")
    assert members["usr/lib/b.so"][1] == b"another"
    assert members["usr/lib/c.so"] == (stat.S_IFLNK | 0o777, b"b.so")
    assert members["lib"] == (stat.S_IFLNK | 0o777, b"usr/lib")
    assert stat.S_ISCHR(members["dev/console"][0])
    names = list(members)
    for name in names:
        for parent in Path(name).parents:
            if parent != Path():
                assert names.index(str(parent)) < names.index(name)


def test_a_program_of_this_machine_comes_with_its_libraries() -> None:
    from initramfs import Tree, needed_libraries

    program = Path(sys.executable).resolve()
    tree = Tree()
    tree.add_host(program)
    file = io.BytesIO()
    tree.write(file)
    members = unpacked(file.getvalue())
    libraries = needed_libraries(program)
    assert any(library.name.startswith("libc.so") for library in libraries)
    for file_needed in (program, *libraries):
        target = str(file_needed.resolve()).lstrip("/")
        target = re.sub(r"^(lib64|lib|bin|sbin)/", r"usr/\1/", target)
        assert members[target][1] == file_needed.read_bytes()


def test_modules_load_after_what_they_depend_on(tmp_path: Path, kernels: ModuleType) -> None:
    for name, depends in {"zram": "zs-malloc,lz4", "zs-malloc": "", "lz4": "lz4_compress"}.items():
        data = b"\x7fELF\0name=x\0depends=%s\0retpoline=Y\0" % depends.encode()
        (tmp_path / f"{name}.ko.xz").write_bytes(lzma.compress(data))
    kernel = kernels.Kernel("7.0", tmp_path / "none", tmp_path)
    order = [name for name, _ in kernel.load_order(["zram", "built_in", "zs_malloc"])]
    assert order == ["zs_malloc", "lz4", "zram"]  # lz4_compress is built in
    assert kernels.Kernel("7.0", tmp_path / "none", None).load_order(["zram"]) == []


def test_a_kernel_image_says_its_release(tmp_path: Path, kernels: ModuleType) -> None:
    from errors import HarnessError

    image = bytearray(0x1000)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = (0x600).to_bytes(2, "little")
    image[0x800:0x818] = b"7.3.0-mine (me@here) #1\0"
    (tmp_path / "bzImage").write_bytes(image)
    assert kernels.own_kernel(tmp_path / "bzImage", None).release == "7.3.0-mine"
    (tmp_path / "other").write_bytes(b"\x7fELF" + bytes(4096))
    with pytest.raises(HarnessError, match="not a bzImage"):
        kernels.own_kernel(tmp_path / "other", None)
    with pytest.raises(HarnessError, match="No such file"):
        kernels.own_kernel(tmp_path / "none", None)


def test_mirrors_are_those_of_the_machine(tmp_path: Path) -> None:
    from packages import Source, machine_sources

    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "Types: deb\n# a remark\nURIs: http://mirror.test/debian\nSuites: stable\n"
        "Signed-By: /keys/a.gpg\n\nTypes: deb\nURIs: http://mirror.test/debian-security\n"
    )
    (tmp_path / "sources.list").write_text(
        "# deb http://mirror.test/old/debian stable main\n"
        "deb [arch=amd64 signed-by=/keys/b.gpg] https://other.test/debian/ stable main\n"
        "deb https://vendor.test/tool stable main\n"
    )
    assert list(machine_sources(tmp_path)) == [
        Source("http://mirror.test/debian", "/keys/a.gpg"),
        Source("https://other.test/debian/", "/keys/b.gpg"),
    ]


def test_every_probe_of_the_table_is_one_that_the_importer_knows(tmp_path: Path) -> None:
    table = PROBES.read_text()
    names = re.findall(r"^(?:required|optional) (\w+)", table, re.MULTILINE)
    assert len(names) > 30
    capture = tmp_path / "capture.txt"
    head = "            init-1       [000] ..... "
    # A process of its own, so that there is something to import.
    lines = [
        "# tracer: nop",
        f"{head} 1: tracing_mark_write: H1 START x",
        f"{head} 2: task_newtask: pid=7 comm=init clone_flags=4100 oom_score_adj=0",
        f"{head} 3: tracing_mark_write: H1 ROOTPID 7",
        "               x-7       [000] .....  4: mm_exec: (f) mm=0xa1",
        "               x-7       [000] .....  5: sched_process_exec: filename=/x pid=7 old_pid=7",
        *(f"{head} {6 + i}: {name}: (f)" for i, name in enumerate(names)),
    ]
    capture.write_text("\n".join(lines) + "\n")
    metadata = import_capture(
        capture, tmp_path / "x.parquet", source_format="tracefs", options=ImportOptions()
    )
    assert not [reason for reason in metadata["dropped"] if reason.startswith("event_")]
    assert {*names} <= {*metadata["events"]}


def test_the_launcher_is_one_static_program(tmp_path: Path) -> None:
    from initramfs import needed_libraries
    from record import build_launcher

    launcher = build_launcher(tmp_path)
    assert launcher.name == "launcher"
    assert launcher.stat().st_size > 100_000
    assert needed_libraries(launcher) == []


def test_every_workload_of_the_set_runs_without_a_launcher(tmp_path: Path) -> None:
    from compiler import build_library, build_program
    from workloads import OUR_SET, SOURCES

    ran = 0
    for workload in OUR_SET:
        if not workload.source.endswith(".c"):
            continue
        program = build_program(
            [SOURCES / workload.source], tmp_path, static=workload.libraries == 0
        )
        libraries = [
            build_library(SOURCES / "library.c", tmp_path, i) for i in range(workload.libraries)
        ]
        done = subprocess.run(
            [program, *workload.argv, *libraries], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{workload.name}: {done.stderr}"
        ran += 1
    assert ran == 12


def test_workloads_are_chosen_by_name() -> None:
    from errors import HarnessError
    from workloads import OUR_SET, SMOKE, choose

    assert choose([]) == OUR_SET
    assert [workload.name for workload in choose(SMOKE)] == list(SMOKE)
    with pytest.raises(HarnessError, match="no workload nonesuch"):
        choose(["nonesuch"])


def test_settings_reach_the_launcher_in_lines_it_knows() -> None:
    from workloads import OUR_SET

    known = {*re.findall(r'strcmp\(line, "(\w+)"\)', (KERNEL / "guest" / "config.c").read_text())}
    for workload in OUR_SET:
        lines = workload.config().splitlines()
        assert {line.split(" ", 1)[0] for line in lines} <= known
        assert [line for line in lines if line.startswith("arg ")] == [
            f"arg {word}" for word in workload.command
        ]
