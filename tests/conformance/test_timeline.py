# SPDX-License-Identifier: GPL-2.0-only
"""A timeline against the replay it was made of: after any row, what its tables say to hold is what
lives; and what walks found follows from the tables alone."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import rmapreplay as rr
from rmapreplay.replay.engine import ModelRun
from rmapreplay.replay.specs import ModelSpec

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "traces" / "corpus"
TRUTH = ROOT / "tests" / "data" / "kernel-truth"
TRACES = {
    "bash": CORPUS / "bash.parquet",
    "forky": CORPUS / "forky.parquet",
    "merge": CORPUS / "merge.parquet",
    "rmap": CORPUS / "rmap.parquet",
    "scen": CORPUS / "scen.parquet",
    **{
        f"{kernel}-{name}": TRUTH / kernel / f"{name}.parquet"
        for kernel in ("6.12.107", "7.3.4")
        for name in ("fork_chain", "mremap_storm", "mthp", "shared_mm", "swap", "thp")
    },
}
MODELS = ("anon_vma", "cow")
LOOKS = 12
"""How often a replay is stopped and looked into."""


@cache
def timeline(name: str, model: str, walks: str = "scan:3") -> rr.Timeline:
    return rr.timeline(TRACES[name], model, walks=walks)


def frame(native: Any) -> pl.DataFrame:
    made = pl.from_arrow(pa.record_batch(native))
    assert isinstance(made, pl.DataFrame)
    return made


def pages_of(mappings: pl.DataFrame) -> pl.DataFrame:
    """A row per page; a PMD maps 512."""
    return (
        mappings.with_columns(
            page=pl.int_ranges(pl.col("page"), pl.col("page") + pl.col("pages"), dtype=pl.UInt64)
        )
        .explode("page")
        .select("mm", "page", "folio")
        .sort("mm", "page")
    )


def named_by_first(pages: pl.DataFrame) -> pl.DataFrame:
    """Folios called after the first page that maps them, as the machine does."""
    key = pl.col("mm").cast(pl.UInt64) * 2**36 + pl.col("page")
    return pages.with_columns(folio=key.min().over("folio"))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", TRACES)
def test_what_holds_is_what_lives(name: str, model: str) -> None:
    history = timeline(name, model)
    tables = {
        table: history.table(table).collect()
        for table in ("mms", "vma_spans", "mappings", "link_spans")
    }

    def at(table: str, seq: int) -> pl.DataFrame:
        since, until = ("born", "gone") if table == "mms" else ("from", "to")
        return tables[table].filter(
            (pl.col(since) <= seq) & (pl.col(until).is_null() | (pl.col(until) > seq))
        )

    trace = rr.read_trace(TRACES[name])
    run = ModelRun(ModelSpec.parse(model), trace, "none", False, None)
    fed = looked = 0
    for batch in trace.batches(batch_size=max(1, trace.rows // LOOKS)):
        run.feed(batch)
        fed += batch.num_rows
        vmas = at("vma_spans", fed - 1)
        assert (
            vmas.sort("mm", "start")
            .select(
                "mm",
                "start",
                "end",
                pl.col("anon_pgoff").alias("index"),
                (pl.col("pgoff") * 4096).alias("offset"),
                "flags",
                "file",
                "faulted",
            )
            .equals(frame(run.native.vmas()).drop("pid"))
        )
        assert set(vmas["mm"]) <= set(at("mms", fed - 1)["mm"])

        mapped = frame(run.native.mappings()).with_columns(page=pl.col("addr") // 4096)
        assert named_by_first(pages_of(at("mappings", fed - 1))).equals(
            mapped.select("mm", "page", "folio")
        )

        links = at("link_spans", fed - 1).join(
            vmas.select("vma", "start", "end", "anon_pgoff", "faulted"), on="vma"
        )
        pages = (pl.col("end") - pl.col("start")) // 4096
        assert links.filter(
            ~pl.col("faulted")
            | (pl.col("first") != pl.col("anon_pgoff"))
            | (pl.col("last") != pl.col("anon_pgoff") + pages - 1)
        ).is_empty()
        native = frame(run.native.links())
        both = links.select("mm", "start", "object").sort("mm", "start", "object")
        # The native replay tells objects by handles, which are used again: the same VMAs must be
        # linked to the same one.
        assert linked_together(both) == linked_together(native)
        live = run.native.live()
        assert len(vmas) == live["vm_area_struct"]
        if "anon_vma_chain" in live:
            assert len(links) == live["anon_vma_chain"]
        looked += 1
    assert looked >= LOOKS


def linked_together(links: pl.DataFrame) -> list[list[tuple[int, int]]]:
    """The VMAs of each object, by mm and start; objects in the order of these."""
    return sorted(
        sorted(group.select("mm", "start").rows()) for _, group in links.group_by("object")
    )


@pytest.mark.parametrize("model", [*MODELS, "cow-poc", "pte_chain", "anonmm", "anon_vma_lazy"])
@pytest.mark.parametrize("name", ["merge", "scen", "6.12.107-swap", "7.3.4-thp", "7.3.4-swap"])
def test_nothing_that_changes_is_forgotten(name: str, model: str) -> None:
    """The machine compares itself with what the timeline has open, after each event."""
    made = rr.timeline(TRACES[name], model, walks="none", verify="all")
    assert made.metadata["summary"]["verified"] == made.metadata["events"]


KEYS = {
    "vma_spans": ["vma"],
    "folios": ["folio"],
    "mappings": ["mm", "page"],
    "link_spans": ["object", "vma"],
    "remap_spans": ["context", "first", "last", "displacement"],
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", TRACES)
def test_spans_of_one_thing_follow_one_another(name: str, model: str) -> None:
    for table, key in KEYS.items():
        spans = timeline(name, model).table(table).collect()
        assert spans.filter(pl.col("to") <= pl.col("from")).is_empty()
        after = pl.col("from").shift(-1).over(key, order_by="from")
        spans = spans.with_columns(after=after)
        overlapping = spans.filter(
            pl.col("after").is_not_null()
            & (pl.col("to").is_null() | (pl.col("to") > pl.col("after")))
        )
        assert overlapping.is_empty(), table
        # A row that follows at once says something else.
        values = [c for c in spans.columns if c not in ("from", "to", "after", "op", *key)]
        following = [pl.col(c).shift(-1).over(key, order_by="from") for c in values]
        same = [pl.col(c).eq_missing(next_) for c, next_ in zip(values, following, strict=True)]
        adjacent = pl.col("to") == pl.col("after")
        assert spans.filter(adjacent & pl.all_horizontal(same)).is_empty(), table


def test_pages_of_one_mm_are_mapped_once_at_a_time() -> None:
    """Also where a PMD is split: its 512 pages are mapped by it, then one by one."""
    mapped = timeline("7.3.4-thp", "anon_vma").mappings.collect()
    assert set(mapped["pages"]) == {1, 512}
    whole = mapped.filter(pl.col("pages") == 512)
    inside = whole.join(mapped.filter(pl.col("pages") == 1), on="mm").filter(
        (pl.col("page_right") >= pl.col("page")) & (pl.col("page_right") < pl.col("page") + 512)
    )
    assert not inside.is_empty()
    never = 2**64 - 1
    assert inside.filter(
        (pl.col("from_right") < pl.col("to").fill_null(never))
        & (pl.col("from") < pl.col("to_right").fill_null(never))
    ).is_empty()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", TRACES)
def test_walks_find_what_the_tables_say(name: str, model: str) -> None:
    """The mapcount is the number of mappings, and a walk that is not stopped hits every VMA that
    holds one."""
    history = timeline(name, model, "scan:3,kind=all")
    walks = history.walks.collect()
    assert not walks.is_empty()
    then = (pl.col("from") <= pl.col("seq")) & (
        pl.col("to").is_null() | (pl.col("to") > pl.col("seq"))
    )
    mapped = walks.lazy().join(history.mappings, on="folio", suffix="_mapped").filter(then)
    counted = mapped.group_by("walk").agg(n=pl.len(), places=pl.struct("mm_mapped", "page_mapped"))
    counts = walks.join(counted.collect(), on="walk", how="left")
    assert counts.filter(pl.col("n").ne_missing(pl.col("mapcount").cast(pl.UInt32))).is_empty()
    # The walk came upon the folio by one of these, or by a page of its PMD.
    assert mapped.filter(
        (pl.col("mm") == pl.col("mm_mapped"))
        & (pl.col("page") == pl.col("page_mapped"))
    ).select("walk").unique().collect().height == len(walks)  # fmt: skip

    vmas = history.vma_spans.select(
        pl.col("mm").alias("mm_mapped"), "vma", "start", "end", "faulted", "from", "to"
    )
    address = pl.col("page_mapped") * 4096
    hit = (
        mapped.drop("from", "to")
        .filter(~pl.col("stopped"))
        .join(vmas, on="mm_mapped")
        .filter(then & (pl.col("start") <= address) & (address < pl.col("end")))
    )
    assert hit.filter(~pl.col("faulted")).collect().is_empty()
    hits = hit.group_by("walk").agg(vmas=pl.col("vma").n_unique()).collect()
    compared = walks.filter(~pl.col("stopped")).join(hits, on="walk", how="left")
    assert not compared.is_empty()
    assert compared.filter(pl.col("vmas").ne_missing(pl.col("hits"))).is_empty()


@pytest.mark.parametrize(
    ("model", "by"), [("anon_vma", ["first", "order"]), ("anon_vma_global", ["order"])]
)
@pytest.mark.parametrize("name", ["forky", "scen", "7.3.4-mthp", "6.12.107-swap"])
def test_links_in_order_are_the_visits(name: str, model: str, by: list[str]) -> None:
    history = timeline(name, model, "scan:3,kind=all")
    native = rr.replay(TRACES[name], model, walks="scan:3,kind=all", visits=True)
    walks = history.walks.with_columns(
        last_index=pl.col("index") + pl.lit(1, pl.UInt64) * 2 ** pl.col("order") - 1
    ).rename({"order": "folio_order"})
    linked = (
        walks.filter(~pl.col("stopped"))
        .join(history.link_spans, left_on="home", right_on="object", suffix="_link")
        .filter(
            (pl.col("from") <= pl.col("seq"))
            & (pl.col("to").is_null() | (pl.col("to") > pl.col("seq")))
            & (pl.col("first") <= pl.col("last_index"))
            & (pl.col("index") <= pl.col("last"))
        )
        .sort("walk", *by)
        .select("walk", mm="mm_link", index="first")
        .collect()
    )
    unstopped = history.walks.filter(~pl.col("stopped")).select("walk").collect()
    visits = native.visits.sort("walk", "visit").join(unstopped, on="walk", maintain_order="left")
    assert not linked.is_empty()
    assert linked.equals(visits.select("walk", "mm", "index"))


@pytest.mark.parametrize("name", ["merge", "6.12.107-swap", "7.3.4-thp"])
@pytest.mark.parametrize("model", MODELS)
def test_recording_a_history_changes_no_result(name: str, model: str) -> None:
    alone = rr.replay(TRACES[name], model, walks="scan:3")
    history = timeline(name, model)
    ours, theirs = history.metadata["summary"], dict(alone.summary["models"][model])
    for of_the_run in ("seconds", "events_per_second", "machine_bytes"):
        theirs.pop(of_the_run)
    assert {key: ours[key] for key in theirs} == theirs
    shared = ["walk", "kind", "order", "mapcount", "visits", "hits", "useless", "misses", "stopped"]
    assert history.walks.select(shared).collect().equals(alone.walks.select(shared))
