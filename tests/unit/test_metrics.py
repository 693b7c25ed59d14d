# SPDX-License-Identifier: GPL-2.0-only
"""docs/metrics.md says what the program says: every metric, object, lock and counter, no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rmapreplay as rr

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
# Columns that say which row it is; docs/architecture.md has them.
KEYS = {"walk", "seq", "model", "kind", "folio", "order", "op", "pid", "time"}
KEYS |= {"mapping", "fork_depth"}
# Keys of a summary's model that only hold others.
HOLDERS = {"walk", "objects", "operations"}


def rows_under(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without back quotes."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line[1:-1].split("|")] for line in lines[2:]]


@pytest.fixture(scope="module")
def models(cli):
    return json.loads(cli("models", "--format", "json").stdout)


@pytest.fixture(scope="module")
def result(forking_trace):
    return rr.replay(forking_trace, [model["name"] for model in rr.models()])


def test_objects_and_their_bytes(models):
    documented = {(row[0], row[1], int(row[2])) for row in rows_under("Objects")}
    said = {
        ("all" if kind == "vm_area_struct" else model["name"], kind, size)
        for model in models
        for kind, size in model["objects"].items()
    }
    assert documented == said
    assert all(row[3] for row in rows_under("Objects"))


def test_locks(models):
    assert rows_under("Locks") == [
        [model["name"], lock["name"], lock["type"], lock["covers"]]
        for model in models
        for lock in model["locks"]
    ]


def test_counters(models):
    assert rows_under("Counters of each model") == [
        [model["name"], per, counter["name"], counter["cost"], counter["doc"]]
        for model in models
        for per, counters in (
            ("walk", model["walk_counters"]),
            ("operation", model["op_counters"]),
        )
        for counter in counters
    ]


def test_cost_classes_and_their_sums(models, result):
    rows = rows_under("The common vocabulary")
    used = {c["cost"] for m in models for c in (*m["walk_counters"], *m["op_counters"])}
    assert {row[0] for row in rows} == used
    found = result.summary["models"]["anon_vma"]
    plain = {"visits", "hits", "useless", "levels"}
    own = {c["name"] for c in models[0]["walk_counters"]}
    assert {row[2] for row in rows} - {""} == set(found["walk"]) - plain - own
    per_operation = {row[3] for row in rows} - {""}
    assert per_operation == set(found["operations"]["fork"]["costs"])


def test_metrics(models, result):
    documented = {
        row[0]
        for heading in ("Per walk", "Per operation", "Memory", "The replay")
        for row in rows_under(heading)
    }
    sums = {"steps", "lookups", "links", "locks", "refcounts"}
    of_walks = {c["name"] for m in models for c in m["walk_counters"]} - sums
    of_operations = {c["name"] for m in models for c in m["op_counters"]} - sums
    kinds = {kind for model in models for kind in model["objects"]}
    flows = {f"{kind}_{flow}" for kind in kinds for flow in ("allocated", "freed")}
    said = set(result.summary) - {"trace", "walk_policy", "models"}
    said |= set(result.walks.columns) - KEYS - of_walks
    said |= set(result.operations.columns) - KEYS - of_operations - flows
    said |= set(result.memory.columns) - KEYS - kinds
    for found in result.summary["models"].values():
        said |= set(found) - HOLDERS | set(found["walk"]) - of_walks
        for kind in found["objects"].values():
            said |= set(kind)
        for operation in found["operations"].values():
            said |= set(operation) | set(operation["costs"])
    assert said == documented


def test_every_metric_has_a_unit_or_a_definition():
    for heading, columns in (("Per walk", 5), ("Per operation", 5), ("Memory", 5)):
        for row in rows_under(heading):
            assert len(row) == columns, row
            assert row[2], row
            assert row[4], row
