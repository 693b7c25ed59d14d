# SPDX-License-Identifier: GPL-2.0-only
"""What happens when a C library is wrong: an error that names model, event and callback, and the
results of the other models."""

from __future__ import annotations

import json
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import rmapreplay as rr

NO_VMA = 1 << 40 | 3

# Rows of the trace: exec writes to its stack; the fork; after this one the first walks are due.
FIRST_FAULT, FIRST_FORK, FIRST_WALK = 0, 66, 8

FAILURES = {
    "wrong_abi": (
        {"ABI": "RMAP_ABI_VERSION+1"},
        None,
        "is built for version 2 of rmap_model.h, this is version 1; build it again",
    ),
    "table_too_small": ({"SIZE": "64"}, None, "has a table of 64 bytes"),
    "table_too_large": ({"SIZE": "4096"}, None, "has a table of 4096 bytes"),
    "no_symbol": ({"SYMBOL": "another_name"}, None, "exports no function rmap_model()"),
    "no_home": ({"HOME": "NULL"}, None, "has no home(), which is required"),
    "segfault_on_load": (
        {"ON_LOAD": "raise(SIGSEGV)"},
        None,
        "Segmentation fault (SIGSEGV) while it was loaded",
    ),
    "exit_on_load": (
        {"ON_LOAD": "exit(0)"},
        None,
        "its process exited with status 0 while it was loaded",
    ),
    "segfault_in_init": (
        {"ON_INIT": "*(volatile int*)0=0"},
        None,
        "Segmentation fault (SIGSEGV) in init()",
    ),
    "error_in_init": (
        {"ON_INIT": 'return machine->fail(machine,"not today")'},
        None,
        "init(): not today",
    ),
    "ledger_in_init": (
        {"ON_INIT": "machine->allocated(machine,0,1)"},
        None,
        "init(): the ledger is closed",
    ),
    "segfault_in_fork": (
        {"ON_FORK": "*(volatile int*)0=0"},
        FIRST_FORK,
        "Segmentation fault (SIGSEGV) in anon_vma_fork()",
    ),
    "abort": ({"ON_FORK": "abort()"}, FIRST_FORK, "Aborted (SIGABRT) in anon_vma_fork()"),
    "exit_3": (
        {"ON_FORK": "exit(3)"},
        FIRST_FORK,
        "its process exited with status 3 in anon_vma_fork()",
    ),
    "exit_0": (
        {"ON_FORK": "exit(0)"},
        FIRST_FORK,
        "its process exited with status 0 in anon_vma_fork()",
    ),
    "crash_in_exit": ({"ON_EXIT": "abort()"}, 166, "Aborted (SIGABRT) in exit()"),
    "error_with_message": (
        {"ON_PREPARE": 'return model->machine->fail(model->machine,"no\\nmore")'},
        FIRST_FAULT,
        "anon_vma_prepare(): no more",
    ),
    "error_without_message": (
        {"ON_PREPARE": "return -5"},
        FIRST_FAULT,
        "anon_vma_prepare(): returned -5 without saying why",
    ),
    "no_word": ({"WORD": "NULL"}, FIRST_FAULT, "anon_vma_prepare(): left anon_vma of VMA 0x7fffff"),
    "nonsense_vma": (
        {"ON_WALK": f"machine->visit(walk,{NO_VMA}u)"},
        FIRST_WALK,
        f"rmap_walk(): offered VMA {NO_VMA}, which is none",
    ),
    "vma_twice": (
        {"ON_WALK": "machine->visit(walk,model->vmas[1]);machine->visit(walk,model->vmas[1])"},
        FIRST_WALK,
        "rmap_walk(): offered VMA 0x7f0000000000-0x7f0000040000 of mm 1 (pid 100) twice",
    ),
    "counter_out_of_range": (
        {"ON_WALK": "++walk->counters[1]"},
        FIRST_WALK,
        "rmap_walk(): walk_counter 1 is none of the 1 declared",
    ),
    "op_counter_out_of_range": (
        {"ON_PREPARE": "++model->machine->counters[11]"},
        FIRST_FAULT,
        "anon_vma_prepare(): op_counter 11 is none of the 1 declared",
    ),
    "object_out_of_range": (
        {"ON_PREPARE": "model->machine->allocated(model->machine,1,1)"},
        FIRST_FAULT,
        "anon_vma_prepare(): object 1 is none of the 1 declared",
    ),
    "site_out_of_range": (
        {"ON_PREPARE": "model->machine->allocated_at(model->machine,4000000000u)"},
        FIRST_FAULT,
        "anon_vma_prepare(): site 4000000000 is none of the 1 declared",
    ),
    "freed_more_than_lives": (
        {"ON_PREPARE": "model->machine->freed(model->machine,0,2)"},
        FIRST_FAULT,
        "anon_vma_prepare(): freed 2 link of 0 that live",
    ),
    "no_such_mm": (
        {"ON_WALK": "struct rmap_mm mm;machine->mm(machine,77,&mm)"},
        FIRST_WALK,
        "rmap_walk(): asked about mm 77, which is none",
    ),
    "no_such_mm_to_visit": (
        {"ON_WALK": "machine->visit_at(walk,78,0)"},
        FIRST_WALK,
        "rmap_walk(): asked about mm 78, which is none",
    ),
    "nothing_beside_nothing": (
        {"ON_WALK": "struct rmap_vma at;machine->next(machine,5,&at)"},
        FIRST_WALK,
        "rmap_walk(): asked for what is beside VMA 5, which is none",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_wrong_library_is_named_and_the_others_results_kept(compile_model, forking_trace, name):
    macros, event, reason = FAILURES[name]
    library = str(compile_model(**macros))
    result = rr.replay(forking_trace, ["anon_vma", library, "cow"])
    assert list(result.summary["models"]) == ["anon_vma", "cow"]
    assert list(result.failed) == [library]
    error = result.failed[library]
    assert type(error) is rr.ModelError
    assert error.reason.startswith(reason), error.reason
    assert (error.model, error.event) == (library, event)
    assert result.walks["model"].unique().sort().to_list() == ["anon_vma", "cow"]
    with pytest.raises(rr.ModelError) as caught:
        rr.replay(forking_trace, library)
    assert str(caught.value) == str(error)


def test_what_is_no_library(forking_trace, tmp_path):
    text = tmp_path / "notes.so"
    text.write_text("not code\n")
    result = rr.replay(forking_trace, [str(text), "cow"])
    assert "cannot be loaded: " in result.failed[str(text)].reason
    with pytest.raises(rr.ModelError, match="no such file"):
        rr.replay(forking_trace, [str(tmp_path / "none.so"), "cow"])


def test_a_broken_invariant_is_one(compile_model, forking_trace):
    library = str(
        compile_model(ON_VALIDATE='return model->machine->fail(model->machine,"the list leaks")')
    )
    result = rr.replay(forking_trace, [library, "cow"], verify=50)
    error = result.failed[library]
    assert isinstance(error, rr.InvariantError)
    assert (error.event, error.reason) == (49, "the list leaks")
    assert rr.replay(forking_trace, library).failed == {}


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ("colour=green", "colour=green: must be one of red|blue"),
        ("size=3", "model every_vma has no parameter 'size' (it takes: kernel colour)"),
        ("kernel=5.10", "kernel: unknown value 5.10"),
    ],
)
def test_parameters_are_checked(compile_model, forking_trace, params, reason):
    with pytest.raises(rr.ModelError) as caught:
        rr.replay(forking_trace, f"{compile_model()}:{params}")
    assert reason in str(caught.value)


# ---- the command line ----


def test_the_others_are_printed_and_written_and_the_exit_code_is_2(
    cli, compile_model, forking_trace, tmp_path
):
    library = compile_model(ON_FORK="abort()")
    out = tmp_path / "out"
    done = cli("run", forking_trace, "-m", library, "-m", "cow", "--format=json", "--out", out)
    assert done.returncode == 2
    assert done.stderr == (
        f"rmapreplay: error: model {library}, event {FIRST_FORK}: "
        "Aborted (SIGABRT) in anon_vma_fork()\n"
    )
    summary = json.loads(done.stdout)
    assert list(summary["models"]) == ["cow"]
    assert summary["failed"] == {
        str(library): {
            "message": "Aborted (SIGABRT) in anon_vma_fork()",
            "event": FIRST_FORK,
            "invariant": False,
        }
    }
    assert json.loads((out / "summary.json").read_text()) == summary
    assert sorted(path.name for path in out.iterdir()) == [
        "memory.parquet",
        "misses.parquet",
        "operations.parquet",
        "summary.json",
        "walks.parquet",
    ]
    alone = tmp_path / "alone"
    cli("run", forking_trace, "-m", "cow", "--out", alone)
    for table in ("walks", "operations", "memory", "misses"):
        assert pq.read_table(out / f"{table}.parquet").equals(
            pq.read_table(alone / f"{table}.parquet")
        )


def test_a_line_for_each_failure_and_nothing_else_if_all_fail(
    cli, compile_model, forking_trace, tmp_path
):
    libraries = [compile_model(ON_FORK="abort()"), compile_model(ON_INIT="abort()")]
    done = cli(
        "run", forking_trace, *(f"-m{path}" for path in libraries), "--out", tmp_path / "out"
    )
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["rmapreplay", "rmapreplay"]
    assert [str(path) in line for path, line in zip(libraries, lines, strict=True)] == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_a_broken_invariant_alone_is_exit_code_1(cli, compile_model, forking_trace):
    library = compile_model(ON_VALIDATE="return -1")
    done = cli("run", forking_trace, "-m", library, "-m", "cow", "--verify")
    assert done.returncode == 1
    assert "broken invariant: model" in done.stderr
    assert "cow (rules of Linux" in done.stdout


def test_what_a_library_prints_goes_to_standard_error(cli, compile_model, forking_trace):
    done = cli("run", forking_trace, "-m", f"{compile_model()}:colour=blue", "--format=json")
    assert done.returncode == 0
    assert done.stderr == "colour blue, rules 2\n"
    assert json.loads(done.stdout)["failed"] == {}


def test_ctrl_c_ends_a_library_that_does_not_return(cli_program, compile_model, forking_trace):
    library = compile_model(ON_FORK='fputs("here\\n",stderr);for(;;);')
    running = subprocess.Popen(
        [cli_program, "run", forking_trace, "-m", library, "-m", "cow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    assert running.stderr.readline() == "here\n"
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=30) == 130
    assert not workers_of(library)


def test_a_library_that_does_not_return_dies_with_its_parent(
    cli_program, compile_model, forking_trace
):
    library = compile_model(ON_FORK='fputs("here\\n",stderr);for(;;);')
    running = subprocess.Popen(
        [cli_program, "run", forking_trace, "-m", library], stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    assert running.stderr.readline() == "here\n"
    assert workers_of(library)
    running.kill()
    running.wait()
    deadline = time.monotonic() + 10
    while workers_of(library) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not workers_of(library)


def workers_of(library: Path) -> list[int]:
    """The processes that have mapped it."""
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if str(library) in maps.read_text():
                found.append(int(maps.parent.name))
        except OSError:
            continue  # it is gone, or not ours
    return found


# ---- models in Python fail alike ----


def test_an_exception_in_a_python_model_takes_no_other_with_it(cli, forking_trace, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        textwrap.dedent("""
            import rmapreplay as rr

            class Mine(rr.RmapModel):
                name = "mine"

                def home(self, vma):
                    return 1

                def rmap_walk(self, walk):
                    return 1 // 0
        """)
    )
    done = cli("run", forking_trace, "-m", f"{mine}:Mine", "-m", "cow", "--format=json")
    assert done.returncode == 2
    assert f"model {mine}:Mine, event {FIRST_WALK}: rmap_walk(): ZeroDivisionError" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(json.loads(done.stdout)["models"]) == ["cow"]
