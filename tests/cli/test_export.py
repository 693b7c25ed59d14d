# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay export: files for Perfetto and for flame graphs."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rmapreplay as rr
from rmapreplay.analysis.export.perfetto import FIRST_COUNTER_PID
from rmapreplay.cli.app import app

CORPUS = Path("traces/corpus")
MODELS = ["anon_vma", "cow"]


@pytest.fixture(scope="module")
def result() -> rr.Result:
    return rr.replay(CORPUS / "bash.parquet", MODELS)


@pytest.fixture(scope="module")
def perfetto(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("perfetto") / "bash.json"
    rr.export_perfetto(CORPUS / "bash.parquet", MODELS, out)
    return json.loads(out.read_text())


def of_phase(perfetto: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [event for event in perfetto["traceEvents"] if event["ph"] == phase]


def test_operations_cost_what_the_summary_says(perfetto: Any, result: rr.Result) -> None:
    tracks = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in of_phase(perfetto, "M")
        if event["name"] == "thread_name"
    }
    found: dict[tuple[str, str, str], int] = defaultdict(int)
    for event in of_phase(perfetto, "i"):
        model = tracks[event["pid"], event["tid"]].removeprefix("operations under ")
        for what, n in event["args"].items():
            found[model, event["name"], what] += n
    compared = 0
    for model, of_model in result.summary["models"].items():
        for op, costs in of_model["operations"].items():
            expected = dict(costs["costs"])
            for kind in of_model["objects"]:
                if kind != "vm_area_struct":
                    expected[f"{kind}_allocated"] = costs["allocated"][kind]
                    expected[f"{kind}_freed"] = costs["freed"][kind]
            for what, n in expected.items():
                if op != "walk":
                    assert found[model, op, what] == n
                    compared += n > 0
    assert compared > 20


def test_processes_live_from_their_first_row_to_their_last(perfetto: Any) -> None:
    trace = rr.read_trace(CORPUS / "bash.parquet").frame()
    start = trace["time"][0]
    lives = {event["pid"]: event for event in of_phase(perfetto, "X")}
    assert set(lives) >= set(trace["pid"])
    for (pid,), rows in trace.group_by("pid"):
        life = lives[pid]
        assert life["ts"] <= (rows["time"][0] - start) / 1000
        assert life["ts"] + life["dur"] == pytest.approx((rows["time"][-1] - start) / 1000)
    names = {
        event["pid"]: event["args"]["name"]
        for event in of_phase(perfetto, "M")
        if event["name"] == "process_name"
    }
    assert any(name.startswith("bash [") for name in names.values())
    assert {names[FIRST_COUNTER_PID + at] for at in range(2)} == {"model anon_vma", "model cow"}


def test_counters_are_the_tables(perfetto: Any, result: rr.Result) -> None:
    counters: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
    for event in of_phase(perfetto, "C"):
        counters[event["pid"], event["name"]].append(event["args"])
    for at, model in enumerate(MODELS):
        memory = result.memory.filter(model=model)
        for name in ("bytes", "folios"):
            told = [args[name] for args in counters[FIRST_COUNTER_PID + at, name]]
            assert told == memory[name].to_list()
        walks = [args["walks"] for args in counters[FIRST_COUNTER_PID + at, "walks"]]
        assert sum(walks) == result.summary["models"][model]["walks"]
        per_walk = counters[FIRST_COUNTER_PID + at, "visits per walk"]
        visits = sum(
            n * (args["hits"] + args["useless"]) for n, args in zip(walks, per_walk, strict=True)
        )
        assert visits == pytest.approx(result.summary["models"][model]["visits"])


def test_the_same_bytes_packed_or_not(tmp_path: Path) -> None:
    for name in ("a.json", "b.json.gz", "c.json.gz"):
        rr.export_perfetto(CORPUS / "scen.parquet", "cow", tmp_path / name)
    plain, packed, again = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert gzip.decompress(packed) == plain
    assert packed == again


def stacks(path: Path) -> dict[tuple[str, ...], int]:
    found = {}
    for line in path.read_text().splitlines():
        frames, _, value = line.rpartition(" ")
        found[tuple(frames.split(";"))] = int(value)
    return found


def test_visits_folded(tmp_path: Path, result: rr.Result) -> None:
    rr.export_folded(CORPUS / "bash.parquet", MODELS, tmp_path / "f")
    found = stacks(tmp_path / "f")
    assert all(len(frames) == 4 for frames in found)
    for model, of_model in result.summary["models"].items():
        for what, expected in (("hits", of_model["hits"]), ("useless", of_model["useless"])):
            of = [n for f, n in found.items() if f[0] == model and f[3].startswith(what)]
            assert sum(of) == expected > 0


@pytest.mark.parametrize("weight", ["links", "locks", "refcounts"])
def test_costs_folded(weight: str, tmp_path: Path, result: rr.Result) -> None:
    rr.export_folded(CORPUS / "bash.parquet", MODELS, tmp_path / "f", weight=weight)
    found = stacks(tmp_path / "f")
    for model, of_model in result.summary["models"].items():
        of_walks = result.walks.filter(model=model)
        expected = of_walks[weight].sum() if weight in of_walks.columns else 0
        for op, costs in of_model["operations"].items():
            expected += costs["costs"][weight] if op != "walk" else 0
        assert sum(n for frames, n in found.items() if frames[0] == model) == expected


def test_objects_and_estimates_folded(tmp_path: Path, result: rr.Result) -> None:
    trace = CORPUS / "bash.parquet"
    rr.export_folded(trace, "anon_vma", tmp_path / "objects", weight="objects")
    made = result.summary["models"]["anon_vma"]["objects"]["anon_vma_chain"]["allocated"]
    found = stacks(tmp_path / "objects")
    assert sum(n for frames, n in found.items() if frames[3] == "anon_vma_chain") == made
    assert not any(frames[3] == "vm_area_struct" for frames in found)

    cold = rr.read_cost_model("cold")
    rr.export_folded(trace, "anon_vma", tmp_path / "ns", weight="ns", cost_model=cold)
    estimated = rr.estimate(result.summary, cold)["models"]["anon_vma"]["estimated_ns"]["total"]
    assert sum(stacks(tmp_path / "ns").values()) == pytest.approx(estimated, rel=1e-4)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "say what to write: --perfetto FILE, --folded FILE, or both"),
        (["--folded", "f", "--weight", "luck"], "weight 'luck': one of visits, steps"),
        (["--folded", "f", "--weight", "ns"], "weight ns needs a cost model"),
        (["--folded", "there"], "there: exists (--force replaces it)"),
        (["--perfetto", "none/there"], "none/there: cannot write: No such file or directory"),
    ],
)
def test_bad_usage(
    args: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = (CORPUS / "scen.parquet").resolve()
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("kept")
    done = CliRunner().invoke(app, ["export", str(trace), "-m", "cow", *args])
    assert isinstance(done.exception, rr.RmapReplayError)
    assert says in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert Path("there").read_text() == "kept"
