# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay run: streams, exit codes, the JSON contract, and outputs that are whole or absent."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

TABLES = ["memory.parquet", "misses.parquet", "operations.parquet", "walks.parquet"]


def one_error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a run that failed as it should: exit 2, one line, nothing on stdout."""
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    prefix = "rmapreplay: error: "
    assert lines[0].startswith(prefix)
    return lines[0].removeprefix(prefix)


def test_json_is_the_contract(cli, forking_trace):
    done = cli("run", forking_trace, "--model", "anon_vma", "--model", "cow", "--format", "json")
    assert done.returncode == 0
    assert done.stderr == ""
    summary = json.loads(done.stdout)
    assert list(summary) == ["trace", "events", "walk_policy", "anomalies", "models", "failed"]
    assert summary["failed"] == {}
    assert summary["trace"]["path"] == str(forking_trace)
    assert summary["trace"]["metadata"]["kernel"] == "7.3.4"
    assert summary["events"] == 167
    assert summary["anomalies"] == {}
    assert list(summary["models"]) == ["anon_vma", "cow"]
    for model in summary["models"].values():
        assert model["kernel"] == "7.3"
        assert model["visits"] == model["hits"] + model["useless"]
        assert model["misses"] == 0
        assert model["walks"] > 0
        common = ["visits", "hits", "useless", "levels", "steps", "lookups", "locks", "refcounts"]
        assert list(model["walk"])[: len(common)] == common
        for values in model["walk"].values():
            assert list(values) == ["mean", "p50", "p95", "p99", "max"]
            assert values["p50"] <= values["p95"] <= values["p99"] <= values["max"]
        for kind in model["objects"].values():
            assert list(kind) == ["allocated", "freed", "peak", "live", "bytes_peak", "sites"]
            assert kind["allocated"] - kind["freed"] == kind["live"] <= kind["peak"]
            assert not kind["sites"] or sum(kind["sites"].values()) == kind["allocated"]
        fork = model["operations"]["fork"]
        assert list(fork) == ["calls", "costs", "allocated", "freed", "counters"]
        assert list(fork["costs"]) == ["links", "locks", "refcounts"]
        assert fork["calls"] == 3
        assert model["events_per_second"] > 0


def test_both_models_find_the_same_mappings(cli, forking_trace):
    done = cli("run", forking_trace, "-m", "anon_vma", "-m", "cow", "--walks", "end,kind=all",
               "--format", "json")  # fmt: skip
    anon_vma, cow = json.loads(done.stdout)["models"].values()
    assert anon_vma["walks"] == cow["walks"]
    assert anon_vma["hits"] == cow["hits"]
    # 3 children with 32 pages of their own each; they share 32, and the stack page of the exec.
    assert anon_vma["walks"] == 3 * 32 + 32 + 1
    assert anon_vma["hits"] == 3 * 32 + 3 * (32 + 1)


def test_table_has_every_model_and_no_colour(cli, forking_trace):
    done = cli("run", forking_trace, "-m", "anon_vma", "-m", "cow:kernel=6.18")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    header = next(line for line in done.stdout.splitlines() if "cow:kernel" in line)
    assert header.split() == ["anon_vma", "cow:kernel=6.18"]
    assert "cow:kernel=6.18 (rules of Linux 6.18)" in done.stdout
    for word in ("useless", "tree_nodes", "anon_vma_chain", "fork", "contexts_live"):
        assert word in done.stdout


@pytest.mark.parametrize("columns", [160, 60])
def test_a_terminal_has_ruled_tables_that_fit_and_never_cut_numbers(
    cli_program, forking_trace, columns
):
    """A table that is too wide is printed in parts."""
    models = ["anon_vma", "cow", "pte_chain", "anonmm"]
    ours, theirs = os.openpty()
    done = subprocess.Popen(
        [cli_program, "run", forking_trace, *(arg for name in models for arg in ("-m", name))],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while chunk := os.read(ours, 4096):
            shown += chunk
    os.close(ours)
    assert done.wait() == 0
    _, _, tables = re.sub("\x1b\\[[0-9;]*m", "", shown.decode()).partition("\r\n")
    assert "──" in tables
    assert "…" not in tables
    lines = tables.split("\r\n")
    assert max(map(len, lines)) <= columns
    headers = [line.split() for line in lines if line.startswith(" ") and line.split()]
    assert [name for header in headers for name in header] == models
    assert len(headers) == (1 if columns == 160 else 2)
    assert sum(line.startswith("visits per walk  ") for line in lines) == len(headers)


def test_models_share_a_vocabulary(cli, forking_trace):
    done = cli("run", forking_trace, "-m", "pte_chain", "-m", "anonmm", "--walks", "end,kind=all")
    rows = {line[:32].strip(): line[32:].split() for line in done.stdout.splitlines()}
    # 129 folios with 195 mappings, each found by its PTE; three mms of the family live, and its
    # head is dead.
    assert rows["visits per walk"] == ["1.512", "3.000"]
    assert rows["useless per walk"] == ["0.000", "1.488"]
    assert rows["steps per walk"] == ["1.512", "4.000"]
    assert rows["lookups per walk"] == ["1.512", "3.000"]
    assert rows["locks per walk"] == ["1.000", "1.000"]
    assert rows["locks per fork"][1] == "1.000"
    assert rows["objects per fork"][1] == "1.000"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("anon", "no such model"),
        ("", "no such model"),
        ("anon_vma:kernel", "not of the form key=value"),
        ("anon_vma:colour=red", "no parameter 'colour'"),
        ("anon_vma:kernel=2.6", "kernel=2.6: must be one of"),
        ("anon_vma:kernel=7.3,kernel=7.3", "given twice"),
    ],
)
def test_bad_model(cli, forking_trace, model, reason):
    assert reason in one_error_line(cli("run", forking_trace, "--model", model))


def test_a_model_given_twice(cli, forking_trace):
    line = one_error_line(cli("run", forking_trace, "-m", "cow", "-m", "cow"))
    assert "model cow is given twice" in line


@pytest.mark.parametrize("walks", ["sometimes", "scan:0", "scan:x", "every:", "end,kind=all-of-it"])
def test_bad_walks(cli, forking_trace, walks):
    line = one_error_line(cli("run", forking_trace, "-m", "cow", "--walks", walks))
    assert walks.partition(":")[0].partition(",")[0] in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "TRACE"],
        ["run", "TRACE", "--model", "cow", "--batch-size", "0"],
        ["run", "TRACE", "--model", "cow", "--threads", "many"],
        ["run", "TRACE", "--model", "cow", "--format", "yaml"],
        ["run", "TRACE", "--model", "cow", "--visits"],
        ["run", "TRACE", "--model", "cow", "--no-such-option"],
        ["no-such-command"],
    ],
)
def test_bad_usage(cli, forking_trace, arguments):
    one_error_line(cli(*(forking_trace if word == "TRACE" else word for word in arguments)))


def test_a_trace_that_is_not_there(cli, tmp_path):
    line = one_error_line(cli("run", tmp_path / "none.parquet", "--model", "cow"))
    assert line.startswith(str(tmp_path / "none.parquet"))


def test_a_truncated_trace_leaves_no_output(cli, forking_trace, tmp_path):
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(forking_trace.read_bytes()[:-20])
    line = one_error_line(cli("run", broken, "--model", "cow", "--out", tmp_path / "out"))
    assert line.startswith(str(broken))
    assert os.listdir(tmp_path) == ["broken.parquet"]


def test_a_bad_row_far_in_is_named_and_leaves_no_output(cli, write_rows, tmp_path):
    fault = {"op": "fault", "pid": 1, "addr": 0x1000, "write": True, "source": "user"}
    rows = [{"op": "exec", "pid": 1, "time": 0}, *({**fault, "time": 9} for _ in range(50))]
    trace = write_rows(tmp_path / "t.parquet", [*rows, {**fault, "time": 8}])
    done = cli("run", trace, "-m", "cow", "--batch-size", "10", "--out", tmp_path / "out")
    line = one_error_line(done)
    assert line.startswith(f"{trace}, row 51, column time")
    assert os.listdir(tmp_path) == ["t.parquet"]


def test_anomalies_fail_only_under_strict(cli, write_rows, tmp_path):
    trace = write_rows(
        tmp_path / "t.parquet",
        [
            {"op": "exec", "pid": 1},
            {"op": "fault", "pid": 1, "addr": 0x1000, "write": True, "source": "user"},
        ],
    )
    done = cli("run", trace, "-m", "cow", "--format", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["anomalies"] == {"fault_outside_vma": 1}
    found = json.loads(done.stdout)["models"]["cow"]["anomalies"]
    assert found == {"fault_outside_vma": {"count": 1, "first_row": 1}}
    done = cli("run", trace, "-m", "cow", "--strict")
    assert done.returncode == 1
    assert "fault_outside_vma" in done.stdout


# ---- --out ----


def outputs(directory: Path) -> dict[str, bytes]:
    """The files' bytes, but for what a run's speed makes of summary.json."""
    files = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
    summary = json.loads(files.pop("summary.json"))
    for model in summary["models"].values():
        del model["seconds"], model["events_per_second"]
    return {**files, "summary.json": json.dumps(summary).encode()}


def test_out_holds_the_tables(cli, forking_trace, tmp_path):
    out = tmp_path / "deep" / "out"
    done = cli("run", forking_trace, "-m", "anon_vma", "-m", "cow", "--out", out)
    assert done.returncode == 0
    assert sorted(os.listdir(out)) == [*TABLES[:3], "summary.json", "walks.parquet"]
    summary = json.loads((out / "summary.json").read_text())
    walks = pq.read_table(out / "walks.parquet").to_pylist()
    for label, model in summary["models"].items():
        rows = [row for row in walks if row["model"] == label]
        assert [row["walk"] for row in rows] == list(range(model["walks"]))
        for metric in ("visits", "hits", "useless", "misses"):
            assert sum(row[metric] for row in rows) == model[metric]
        for metric, values in model["walk"].items():
            assert max(row[metric] for row in rows) == values["max"]
    assert all((row["contexts_live"] is None) == (row["model"] == "anon_vma") for row in walks)
    assert os.listdir(tmp_path / "deep") == ["out"]


def test_visits_lists_every_vma_offered(cli, forking_trace, tmp_path):
    cli("run", forking_trace, "-m", "anon_vma", "--out", tmp_path / "out", "--visits")
    walks = pq.read_table(tmp_path / "out" / "walks.parquet").to_pylist()
    visits = pq.read_table(tmp_path / "out" / "visits.parquet").to_pylist()
    assert [(row["walk"], row["visit"]) for row in visits] == [
        (row["walk"], visit) for row in walks for visit in range(row["visits"])
    ]
    hits = dict.fromkeys(range(len(walks)), 0)
    for row in visits:
        hits[row["walk"]] += row["hits"]
    assert [row["hits"] for row in walks] == list(hits.values())


def test_same_bytes_whatever_the_batches_threads_and_hash_seed(cli, forking_trace, tmp_path):
    variants = [
        ([], {"PYTHONHASHSEED": "1"}),
        (["--batch-size", "1"], {"PYTHONHASHSEED": "2"}),
        (["--batch-size", "7", "--threads", "1"], {}),
        (["--threads", "2"], {"PYTHONHASHSEED": "3"}),
    ]
    found = []
    for i, (options, env) in enumerate(variants):
        out = tmp_path / str(i)
        done = cli("run", forking_trace, "-m", "anon_vma", "-m", "cow", "-m", "cow-poc", "--visits",
                   "--out", out, *options, env=env)  # fmt: skip
        assert done.returncode in (0, 1)
        found.append(outputs(out))
    assert found[0]["walks.parquet"]
    for other in found[1:]:
        assert other == found[0]


def test_same_bytes_where_tables_are_cut_within_a_batch(cli, tmp_path):
    redis = Path(__file__).parents[2] / "traces" / "corpus" / "redis.parquet"
    found = []
    for i, options in enumerate([[], ["--batch-size", "1000", "--threads", "1"]]):
        done = cli(
            "run", redis, "-m", "anon_vma", "-m", "cow", "--out", tmp_path / str(i), *options
        )
        assert done.returncode == 0
        found.append(outputs(tmp_path / str(i)))
    assert found[0] == found[1]
    walks = pq.ParquetFile(tmp_path / "0" / "walks.parquet")
    assert walks.metadata.num_row_groups > 2
    assert walks.metadata.row_group(0).num_rows == 1 << 16


def test_results_are_replaced_only_by_force(cli, forking_trace, tmp_path):
    out = tmp_path / "out"
    assert cli("run", forking_trace, "-m", "cow", "--out", out, "--visits").returncode == 0
    (out / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in out.iterdir()}
    line = one_error_line(cli("run", forking_trace, "-m", "anon_vma", "--out", out))
    assert line.startswith(str(out))
    assert "--force" in line
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert cli("run", forking_trace, "-m", "anon_vma", "--out", out, "--force").returncode == 0
    assert sorted(os.listdir(out)) == sorted([*TABLES, "notes.txt", "summary.json"])
    assert list(json.loads((out / "summary.json").read_text())["models"]) == ["anon_vma"]
    assert os.listdir(tmp_path) == ["out"]


def test_a_full_disk_is_one_line_and_no_output(cli, forking_trace, tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    done = cli("run", forking_trace, "-m", "cow", "--out", tmp_path / "out", preexec_fn=limit)
    line = one_error_line(done)
    assert line.startswith(str(tmp_path / "out"))
    assert os.listdir(tmp_path) == []


def test_a_full_stdout_is_one_line(cli, forking_trace):
    with Path("/dev/full").open("w") as full:
        done = cli("run", forking_trace, "-m", "cow", stdout_to=full)
    assert done.returncode == 2
    assert done.stderr == "rmapreplay: error: No space left on device\n"


def test_a_closed_pipe_is_no_error(cli_program, forking_trace):
    running = subprocess.Popen(
        [cli_program, "run", forking_trace, "-m", "cow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert running.stderr.read() == ""
    assert running.wait() == -signal.SIGPIPE
