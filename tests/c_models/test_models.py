# SPDX-License-Identifier: GPL-2.0-only
"""Models in C do what native ones do: the template walk by walk, whatever way it is run."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rmapreplay as rr

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "traces" / "corpus"
TEMPLATE = ROOT / "templates" / "c_model"
TRACES = [
    path
    for path in sorted([*CORPUS.glob("*.parquet"), *CORPUS.glob("captured/*.parquet")])
    if not path.name.endswith(".truth.parquet") and path.stat().st_size < 1 << 20
]


@pytest.fixture(scope="module")
def template(compile_model) -> Path:
    library: Path = compile_model(TEMPLATE / "pte_chain.c")
    return library


def frames_of(result: rr.Result, label: str) -> dict[str, pl.DataFrame]:
    return {
        name: getattr(result, name).filter(pl.col("model").cast(pl.String) == label).drop("model")
        for name in ("walks", "visits", "misses", "operations", "memory")
    }


@pytest.mark.parametrize("trace", TRACES, ids=lambda path: path.stem)
def test_the_template_equals_the_native_model(template, trace):
    library = str(template)
    result = rr.replay(trace, ["pte_chain", library], visits=True, walks="scan:2", verify="sampled")
    assert result.failed == {}
    found = result.summary["models"]
    assert found[library]["misses"] == 0
    assert found[library]["walks"] > 0
    native, ours = frames_of(result, "pte_chain"), frames_of(result, library)
    for name, frame in native.items():
        assert_frame_equal(ours[name], frame)
    for told in found.values():
        for time in ("seconds", "events_per_second"):
            del told[time]
    assert found[library] == found["pte_chain"]


def test_it_builds_with_make_and_cmake_as_it_says(cli_program, tmp_path, forking_trace):
    environment = {"PATH": f"{cli_program.parent}:/usr/local/bin:/usr/bin:/bin"}
    for name, commands in {
        "make": [["make"]],
        "cmake": [["cmake", "-B", "build", "-G", "Ninja"], ["cmake", "--build", "build"]],
    }.items():
        if any(shutil.which(tool, path=environment["PATH"]) is None for tool in (name, "cc")):
            continue
        folder = tmp_path / name
        shutil.copytree(TEMPLATE, folder)
        for command in commands:
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        (library,) = folder.glob("**/libpte_chain.so")
        result = rr.replay(forking_trace, str(library))
        assert result.summary["models"][str(library)]["useless"] == 0


def test_the_header_is_c11_and_cxx(tmp_path):
    compilers = {"cc": ["-x", "c", "-std=c11"], "c++": ["-x", "c++", "-std=c++17"]}
    there = {name: options for name, options in compilers.items() if shutil.which(name)}
    if not there:
        pytest.skip("no C compiler (cc)")
    source = tmp_path / "empty.c"
    source.write_text('#include "rmap_model.h"\nint main(void) { return 0; }\n')
    for name, options in there.items():
        subprocess.run(
            [
                *(name, *options, "-Wall", "-Wextra", "-Wpedantic", "-Werror"),
                *("-fsyntax-only", f"-I{rr.include_dir()}", str(source)),
            ],
            check=True,
        )


def test_include_dir(cli):
    done = cli("include-dir")
    assert (done.returncode, done.stderr) == (0, "")
    assert (Path(done.stdout.strip()) / "rmap_model.h").is_file()
    assert Path(done.stdout.strip()) == rr.include_dir()


def test_a_small_model_finds_every_mapping(compile_model, forking_trace):
    library = str(compile_model())
    result = rr.replay(forking_trace, [library, "anon_vma"], walks="scan:16,kind=all", verify="all")
    ours, native = (result.summary["models"][label] for label in (library, "anon_vma"))
    assert (ours["walks"], ours["hits"]) == (native["walks"], native["hits"])
    assert ours["misses"] == 0
    assert ours["verified"] == 167
    link = ours["objects"]["link"]
    assert link["sites"] == {"link_alloc": link["allocated"]}
    assert ours["operations"]["fork"]["counters"]["links"] == 6
    assert ours["walk"]["links_read"]["max"] == 8


def test_a_trace_in_memory_replays_alike(template, forking_trace):
    trace = rr.read_trace(forking_trace)
    in_memory = rr.read_trace(trace.frame(), {"kernel": "7.3.4"})
    from_file, from_memory = (
        rr.replay(source, str(template), visits=True) for source in (trace, in_memory)
    )
    for name in ("walks", "visits", "misses", "operations", "memory"):
        assert getattr(from_file, name).equals(getattr(from_memory, name)), name


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (50, 2), (1 << 16, None)])
def test_neither_batches_nor_threads_show(template, forking_trace, tmp_path, batch_size, threads):
    models = ["cow", str(template), "anon_vma"]
    expected = rr.replay(forking_trace, models, visits=True)
    found = rr.replay(
        forking_trace,
        models,
        visits=True,
        out=tmp_path / "out",
        batch_size=batch_size,
        threads=threads,
    )
    assert list(found.summary["models"]) == models
    for name in ("walks", "visits", "misses", "operations", "memory"):
        assert getattr(found, name).equals(getattr(expected, name)), name


def test_progress_ends_at_the_number_of_events(template, forking_trace):
    seen: list[int] = []
    rr.replay(forking_trace, str(template), progress=seen.append)
    assert seen[-1] == 167
    assert seen == sorted(seen)


def test_a_library_of_an_older_header_runs_on(compile_model, forking_trace):
    older = str(compile_model(SIZE="offsetof(struct rmap_model_ops,page_add_rmap)"))
    newer = str(compile_model())
    result = rr.replay(forking_trace, [older, newer], verify=50)
    assert result.failed == {}
    ours, theirs = (
        result.walks.filter(pl.col("model").cast(pl.String) == m) for m in (older, newer)
    )
    assert ours.drop("model").equals(theirs.drop("model"))


def test_a_table_in_this_process(compile_model, forking_trace):
    """As functions that numba compiled: an object with the address of the table."""
    library = ctypes.CDLL(str(compile_model()))
    library.rmap_model.restype = ctypes.c_void_p

    class Table:
        rmap_model_ops = library.rmap_model()

    result = rr.replay(forking_trace, [Table(), str(compile_model())])
    assert list(result.summary["models"]) == ["every_vma", str(compile_model())]
    first, second = result.summary["models"].values()
    assert first["visits"] == second["visits"] > 0

    class Nothing:
        rmap_model_ops = 0

    with pytest.raises(rr.ModelError, match="rmap_model_ops is not the address of a table"):
        rr.replay(forking_trace, Nothing())
