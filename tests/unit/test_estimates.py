# SPDX-License-Identifier: GPL-2.0-only
"""Estimates: counts times weights."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import rmapreplay as rr
from rmapreplay.analysis.estimates import (
    PER_OPERATION,
    PER_WALK,
    SHIPPED,
    WEIGHTS,
    CostModel,
    Weight,
    estimate,
    read_cost_model,
)

CORPUS = Path("traces/corpus")


def powers(**counters: float) -> CostModel:
    """Each weight another power of a thousand, so that a sum tells what it is made of."""
    weights = {name: Weight(1000.0**i, "here") for i, name in enumerate(WEIGHTS)}
    return CostModel("powers", weights, {name: Weight(ns, "here") for name, ns in counters.items()})


def test_each_count_is_weighed_once() -> None:
    walk = {metric: {"mean": float(i + 1)} for i, metric in enumerate(PER_WALK)}
    walk["tree_nodes"] = {"mean": 4.0}
    costs = {metric: i + 11 for i, metric in enumerate(PER_OPERATION)}
    fork = {
        "costs": costs,
        "allocated": {"vm_area_struct": 99, "anon_vma": 2, "anon_vma_chain": 5},
        "freed": {"vm_area_struct": 98, "anon_vma": 1, "anon_vma_chain": 0},
        "counters": {"avc_inserts": 5},
    }
    found = {"walks": 10, "walk": walk, "operations": {"fork": fork, "walk": fork}}
    got = powers(tree_nodes=0.25, avc_inserts=0.5).of_model(found)
    one = {name: 1000.0**i for i, name in enumerate(WEIGHTS)}
    per_walk = 1.0 + sum((i + 1) * one[weight] for i, weight in enumerate(PER_WALK.values()))
    of_fork = 2.5 + 7 * one["allocate"] + one["free"]
    of_fork += sum((i + 11) * one[weight] for i, weight in enumerate(PER_OPERATION.values()))
    assert got == {
        "per_walk": pytest.approx(per_walk, rel=1e-15),
        "walks": pytest.approx(10 * per_walk, rel=1e-15),
        "operations": {"fork": pytest.approx(of_fork, rel=1e-15)},
        "total": pytest.approx(10 * per_walk + of_fork, rel=1e-15),
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_walks_of_the_table_are_those_of_the_summary(name: str) -> None:
    weights = read_cost_model(name)
    result = rr.replay(CORPUS / "bash.parquet", ["anon_vma", "cow", "pte_chain"])
    found = estimate(result.summary, weights)["models"]
    table = result.walks.with_columns(ns=weights.walk_ns(result.walks.columns))
    for model, (count, total) in {
        key[0]: rows.select(pl.len(), pl.col("ns").sum()).row(0)
        for key, rows in table.group_by("model")
    }.items():
        assert found[model]["walks"] == count > 0
        assert found[model]["estimated_ns"]["walks"] == pytest.approx(total)
        assert total > 0


def test_what_is_unknown_stays_unknown() -> None:
    result = rr.replay(CORPUS / "scen.parquet", "cow", backend="frames")
    warm = read_cost_model("warm")
    (found,) = estimate(result.summary, warm)["models"].values()
    assert found["estimated_ns"]["per_walk"] is None
    assert found["estimated_ns"]["total"] is None
    assert found["estimated_ns"]["operations"]["dup_mmap"] > 0
    assert result.walks.select(warm.walk_ns(result.walks.columns)).to_series().null_count()


def test_cold_takes_longer_than_warm_in_everything() -> None:
    warm, cold = map(read_cost_model, SHIPPED)
    for name in WEIGHTS:
        assert 0 < warm.weights[name].ns < cold.weights[name].ns
        assert warm.weights[name].origin


@pytest.mark.parametrize("name", SHIPPED)
def test_the_page_has_the_figures_of_the_files(name: str) -> None:
    page = Path("docs/cost-models.md").read_text()
    table = page[page.index("| weight | warm, ns | cold, ns |") :].split("\n\n")[0]
    seen = set()
    for line in table.splitlines()[2:]:
        names, *values, _ = (cell.strip() for cell in line.strip("|").split("|"))
        ns = dict(zip(SHIPPED, values, strict=True))[name]
        for weight in names.replace("`", "").split(", "):
            assert read_cost_model(name).weights[weight].ns == float(ns)
            seen.add(weight)
    assert seen == set(WEIGHTS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("weights = [", "is not TOML"),
        ("speed = 3", "speed: neither weights nor counters"),
        ("weights = 3", "weights: is no table"),
        ("[weights.hop]\nns = 1\norigin = 'x'", "weights.hop: no weight; there are visit"),
        ("[weights]\nstep = 3", "weights.step: is no table of ns and origin"),
        ("[weights.step]\nns = -1\norigin = 'x'", "weights.step.ns: is -1"),
        ("[weights.step]\nns = inf\norigin = 'x'", "weights.step.ns: is inf"),
        ("[weights.step]\nns = true\norigin = 'x'", "weights.step.ns: is True"),
        ("[counters.tree_nodes]\nns = 1", "counters.tree_nodes.origin: says nothing"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(rr.RmapReplayError) as error:
        read_cost_model(path)
    assert says in str(error.value)
    assert str(error.value).startswith(f"cost model {path}: ")


def test_run_says_that_it_estimates(tmp_path: Path) -> None:
    from rmapreplay.cli.app import app

    mine = tmp_path / "mine.toml"
    mine.write_text("[weights.visit]\nns = 2\norigin = 'by decree'\n")
    run = ["run", str(CORPUS / "scen.parquet"), "-m", "anon_vma", "-m", "cow"]
    shown = CliRunner().invoke(app, [*run, "--cost-model", str(mine)]).stdout
    assert "estimated: counts times the weights of cost model mine" in shown
    assert "estimated ns per fork" in shown
    printed = CliRunner().invoke(app, [*run, "--cost-model", str(mine), "--format", "json"]).stdout
    summary = json.loads(printed)
    assert summary["cost_model"]["weights"]["visit"] == {"ns": 2.0, "origin": "by decree"}
    for found in summary["models"].values():
        assert found["estimated_ns"]["walks"] == pytest.approx(2 * found["visits"])
    assert "estimated" not in CliRunner().invoke(app, run).stdout


def test_no_such_cost_model() -> None:
    with pytest.raises(rr.RmapReplayError, match="cost model luke: neither warm nor cold, and no"):
        read_cost_model("luke")
