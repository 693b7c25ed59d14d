# SPDX-License-Identifier: GPL-2.0-only
"""What a batch writes and says, whatever does its tasks, and whatever fails."""

from __future__ import annotations

import hashlib
import json
import shutil

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

import rmapreplay as rr
from rmapreplay.batch.tasks import file_name
from rmapreplay.replay.specs import split_specs
from rmapreplay.traces.truth import truth_path

from .conftest import MODELS, WALKS, contents, timings

NAMES = ["deep/merge", "deep/scen", "forky"]
TABLES = ["walks", "operations", "memory", "misses"]

FAILING = """\
import os

import rmapreplay as rr


class Raises(rr.RmapModel):
    def home(self, vma):
        raise ValueError(f"no home\\nfor {vma}")

    def rmap_walk(self, walk):
        pass


class Exits(Raises):
    def home(self, vma):
        os._exit(3)


class Dies(Raises):
    def home(self, vma):
        os.kill(os.getpid(), 11)
"""


def test_the_frames_are_those_of_single_replays(reference, corpus):
    alone = {name: rr.replay(corpus / f"{name}.parquet", MODELS, walks=WALKS) for name in NAMES}
    for table in TABLES:
        found = getattr(reference, table).collect()
        assert found.columns[0] == "trace"
        for name, result in alone.items():
            wanted = getattr(result, table)
            for model in MODELS:
                of_model = found.filter(
                    pl.col("trace").cast(str) == name, pl.col("model").cast(str) == model
                )
                rows = wanted.filter(pl.col("model").cast(str) == model)
                assert of_model.height == rows.height
                assert of_model.select(wanted.columns).equals(rows)
    assert reference.walks.select(pl.len()).collect().item() > 1000


def test_the_summary_is_that_of_single_replays(reference, corpus):
    told = rr.replay(corpus / "deep/scen.parquet", "cow", walks=WALKS).summary
    cow = told["models"]["cow"]
    rows = reference.summary.filter(trace="deep/scen", model="cow").collect()
    assert not rows.select("group", "name", "stat").is_duplicated().any()
    found = {tuple(row[2:5]): row[5] for row in rows.rows()}
    assert found["replay", "events", "total"] == told["events"]
    for name in ("walks", "visits", "hits", "useless", "misses"):
        assert found["walks", name, "total"] == cow[name]
    for metric, stats in cow["walk"].items():
        assert {stat: found["walk", metric, stat] for stat in stats} == stats
    for kind, stats in cow["objects"].items():
        sites = stats.pop("sites")
        assert {stat: found["object", kind, stat] for stat in stats} == stats
        assert {site: found["site", kind, site] for site in sites} == sites
    for op, costs in cow["operations"].items():
        assert found["operation", op, "calls"] == costs["calls"]
        for name, value in {**costs["costs"], **costs["counters"]}.items():
            assert found["operation", op, name] == value
        for kind, value in costs["allocated"].items():
            assert found["operation", op, f"{kind}_allocated"] == value
    assert {row[0] for row in rows.select("trace").rows()} == {"deep/scen"}


def test_the_manifest_says_what_there_is(reference, corpus):
    manifest = json.loads((reference.directory / "manifest.json").read_text())
    assert manifest == reference.manifest
    assert [trace["name"] for trace in manifest["traces"]] == NAMES
    for trace in manifest["traces"]:
        content = (corpus / f"{trace['name']}.parquet").read_bytes()
        assert trace["sha256"] == hashlib.sha256(content).hexdigest()
        assert trace["kernel"] == "7.3.4"
    assert manifest["parameters"] == {"walks": WALKS}
    assert manifest["program"]["version"] == rr.__version__
    tasks = [(task["trace"], task["model"]) for task in manifest["tasks"]]
    assert tasks == [(name, model) for name in NAMES for model in MODELS]
    told = [file for task in manifest["tasks"] for file in task["files"].values()]
    for file in [*told, manifest["summary"]]:
        content = (reference.directory / file["path"]).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (
            file["sha256"],
            file["bytes"],
        )
    for file in told:
        assert pq.read_metadata(reference.directory / file["path"]).num_rows == file["rows"]
    assert {file["path"] for file in told} == {
        path.relative_to(reference.directory).as_posix()
        for path in reference.directory.glob("*/*/*.parquet")
    }
    assert (reference.done, reference.reused, reference.failed) == (6, 0, [])


def test_totals_are_sums_of_the_walks(reference):
    sums = reference.walks.group_by(pl.col("model").cast(str)).agg(
        pl.len().alias("walks"), pl.col("visits", "useless", "misses").sum()
    )
    for model, *found in sums.collect().rows():
        total = reference.manifest["totals"][model]
        assert found == [total[name] for name in ("walks", "visits", "useless", "misses")]
        assert total["traces"] == 3
        assert total["useless_share"] == round(total["useless"] / total["visits"], 6)


def test_two_at_a_time_and_other_ways_to_the_traces(reference, corpus, server, tmp_path):
    again = rr.batch(server, MODELS, out=tmp_path / "out", walks=WALKS, jobs=2)
    assert contents(again.directory) == contents(reference.directory)
    assert len(timings(again.directory)) == 6
    assert repr(rr.read_batch(tmp_path / "out")) == repr(again)


def test_other_readers(reference):
    top = reference.directory
    rows = duckdb.sql(
        f"select trace, model, count(*), sum(visits) from read_parquet('{top}/walks/*/*.parquet', "
        "union_by_name = true) group by all order by all"
    ).fetchall()
    wanted = (
        reference.walks.group_by(pl.col("trace").cast(str), pl.col("model").cast(str))
        .agg(pl.len().alias("walks"), pl.col("visits").sum().cast(int))
        .sort("trace", "model")
        .collect()
    )
    assert rows == wanted.rows()


@pytest.fixture
def troubled(corpus, tmp_path):
    """A corpus with a good trace and a bad one, and models that fail in every way."""
    folder = tmp_path / "troubled"
    folder.mkdir()
    shutil.copy(corpus / "forky.parquet", folder)
    content = (corpus / "forky.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(content[: len(content) // 2])
    (tmp_path / "bad.py").write_text(FAILING)
    return folder


def test_what_fails_takes_no_other_with_it(troubled, cli, tmp_path):
    out = tmp_path / "out"
    models = "cow,./bad.py:Raises,./bad.py:Exits,./bad.py:Dies"
    done = cli("batch", troubled, "-o", out, "-m", models, "--walks", WALKS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    head, *lines = done.stdout.splitlines()
    assert "1 replay done, 0 reused, 7 failed" in head
    assert "Totals are of the traces that every model finished. These failed:" in lines
    assert sum(line.startswith(("forky ", "cut ")) for line in lines) == 7
    manifest = json.loads((out / "manifest.json").read_text())
    told = {(each["trace"], each["model"]): each for each in manifest["failed"]}
    cut = [told.pop(("cut", model)) for model in split_specs(models)]
    assert {each["kind"] for each in cut} == {"TraceFormatError"}
    assert all(each["message"].startswith("not a Parquet file") for each in cut)
    kinds = {model.rpartition(":")[2]: each["kind"] for (_, model), each in told.items()}
    assert kinds == {"Raises": "ModelError", "Exits": "Crash", "Dies": "Crash"}
    messages = {each["model"].rpartition(":")[2]: each["message"] for each in told.values()}
    assert "ValueError: no home for" in messages["Raises"]
    assert messages["Exits"] == "its process exited with status 3"
    assert messages["Dies"] == "Segmentation fault (SIGSEGV)"
    assert told["forky", "./bad.py:Raises"]["event"] == 0  # exec, which faults its stack
    assert [(task["trace"], task["model"]) for task in manifest["tasks"]] == [("forky", "cow")]
    found = rr.read_batch(out)
    assert found.walks.select(pl.col("trace").cast(str).unique()).collect().item() == "forky"
    failures = found.summary.filter(group="failure").collect()
    assert failures["name"].cast(str).value_counts().sort("name").rows() == [
        ("Crash", 2), ("ModelError", 1), ("TraceFormatError", 4)
    ]  # fmt: skip


def test_a_trace_that_cannot_be_read(corpus, server, tmp_path):
    (tmp_path / "some.txt").write_text(f"{server}/forky.parquet\n{server}/none.parquet\n")
    found = rr.batch(tmp_path / "some.txt", "cow", out=tmp_path / "out", walks="end")
    assert [(each.trace, each.model, each.message) for each in found.failed] == [
        ("none", "cow", f"{server}/none.parquet: no such file")
    ]
    assert [task["trace"] for task in found.manifest["tasks"]] == ["forky"]


def test_misses_are_told_and_ask_for_exit_1(cli, corpus, tmp_path):
    command = ["batch", corpus / "deep", "-o", tmp_path / "out", "-m", "cow-poc", "--walks=scan:2"]
    done = cli(*command)
    assert done.stderr == ""
    header, row = done.stdout.splitlines()[2:]
    total = rr.read_batch(tmp_path / "out").manifest["totals"]["cow-poc"]
    assert header.split()[:4] == ["model", "traces", "walks", "visits"]
    assert row.split()[:4] == ["cow-poc", "2", f"{total['walks']:,}", f"{total['visits']:,}"]
    assert total["misses"] > 0
    assert done.returncode == 1
    again = cli(*command, "--format=json")
    assert again.returncode == 1
    assert json.loads(again.stdout) == rr.read_batch(tmp_path / "out").manifest


def test_what_failed_is_tried_again(small, tmp_path):
    model = tmp_path / "sometimes.py"
    model.write_text(FAILING.replace("os._exit(3)", f"os.stat('{tmp_path}/there') and 1 / 0"))
    arguments = {"corpus": small / "a.parquet", "models": f"{model}:Exits", "out": tmp_path / "out"}
    (failure,) = rr.batch(**arguments).failed
    assert "FileNotFoundError" in failure.message
    (tmp_path / "there").touch()
    (failure,) = rr.batch(**arguments).failed
    assert "ZeroDivisionError" in failure.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": "nonesuch"}, "model nonesuch: no such model"),
        ({"models": "cow,cow"}, "model cow is given twice"),
        ({"models": []}, "no models are given"),
        ({"walks": "often"}, "often"),
        ({"corpus": "/nonexistent/none"}, "none: no such file"),
        ({"jobs": 0}, "jobs 0: must be at least 1"),
        ({"jobs": 2, "cluster": "local:2"}, "not both"),
        ({"cluster": "there"}, "cluster there: neither tcp://HOST:PORT nor local:N"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(options, message, small, tmp_path):
    arguments = {"corpus": small, "models": "cow", "out": tmp_path / "out", **options}
    with pytest.raises(rr.RmapReplayError, match=message) as caught:
        rr.batch(**arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_bad_usage_on_the_command_line(cli, small, tmp_path):
    done = cli("batch", small, "-o", tmp_path / "out", "-m", "cow", "--cluster=there")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "rmapreplay: error: cluster there: neither tcp://HOST:PORT nor local:N\n"
    )


def test_model_lists():
    assert split_specs("anon_vma:kernel=6.18,x=y,cow,./a.py:B:k=v,c:d") == [
        "anon_vma:kernel=6.18,x=y",
        "cow",
        "./a.py:B:k=v",
        "c:d",
    ]


def test_names_of_files_are_distinct_and_short():
    texts = ["a/b", "a%2Fb", "a b", "./m.py:A:k=v", "é", "x" * 300, "x" * 299 + "y", "trace=a"]
    names = [file_name("model", text) for text in texts]
    assert names[:4] == ["model=a%2Fb", "model=a%252Fb", "model=a b", "model=.%2Fm.py%3AA%3Ak%3Dv"]
    assert len(set(names)) == len(texts)
    assert all(len(f"{name}.parquet") < 255 and name.isascii() for name in names)


def test_models_are_texts(corpus, tmp_path):
    with pytest.raises(TypeError, match="file.py:Class"):
        rr.batch(corpus, [rr.RmapModel], out=tmp_path / "out")


def test_answer_keys_are_not_read(corpus):
    """Else the corpus would have traces that the batches here do not tell of."""
    assert all(truth_path(corpus / f"{name}.parquet").exists() for name in NAMES)
