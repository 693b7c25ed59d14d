# SPDX-License-Identifier: GPL-2.0-only
"""The library's replay: specs, errors, frames in memory and on disk."""

from __future__ import annotations

import threading

import polars as pl
import pyarrow as pa
import pytest

import rmapreplay as rr
from rmapreplay import _native
from rmapreplay.replay import engine
from rmapreplay.replay.specs import ModelSpec, kernel_rules
from rmapreplay.traces.schema import CANONICAL_SCHEMA


@pytest.mark.parametrize(
    ("release", "rules"),
    [
        ("5.10.0", "6.12"),
        ("6.12.63-debian", "6.12"),
        ("6.15.11", "6.12"),
        ("6.16.0", "6.18"),
        ("6.18.44", "6.18"),
        ("7.2.9", "6.18"),
        ("7.3.4", "7.3"),
        ("10.0", "7.3"),
        (None, "7.3"),
        ("next", "7.3"),
    ],
)
def test_kernel_rules(release, rules):
    assert kernel_rules(release) == rules


def test_a_given_kernel_beats_the_traces():
    assert ModelSpec.parse("cow").kernel({"kernel": "6.18.44"}) == "6.18"
    assert ModelSpec.parse("cow:kernel=auto").kernel({"kernel": "6.18.44"}) == "6.18"
    assert ModelSpec.parse("cow:kernel=7.3").kernel({"kernel": "6.18.44"}) == "7.3"


def test_model_error_says_which():
    with pytest.raises(rr.ModelError, match="no such model") as caught:
        ModelSpec.parse("nothing")
    assert caught.value.model == "nothing"
    assert isinstance(caught.value, rr.RmapReplayError)


def test_replay_is_the_function_however_it_is_reached():
    from rmapreplay.replay.result import replay

    assert rr.replay is replay


def test_frames_in_memory_and_on_disk_are_equal(forking_trace, tmp_path):
    models = ["anon_vma", "cow"]
    memory = rr.replay(forking_trace, models, visits=True)
    disk = rr.replay(forking_trace, models, visits=True, out=tmp_path / "out")
    for name in ("walks", "visits", "misses", "operations", "memory"):
        assert getattr(memory, name).equals(getattr(disk, name)), name
    assert memory.walks["walk"].len() == sum(m["walks"] for m in memory.summary["models"].values())


def test_summary_percentiles_are_those_of_the_walks(forking_trace):
    result = rr.replay(forking_trace, "anon_vma", walks="every:10,kind=all")
    for metric, values in result.summary["models"]["anon_vma"]["walk"].items():
        column = result.walks[metric].sort()
        assert values["mean"] == pytest.approx(column.mean())
        assert values["max"] == column.max()
        for name, share in (("p50", 50), ("p95", 95), ("p99", 99)):
            rank = -(-len(column) * share // 100)
            assert values[name] == column[rank - 1]


def test_operations_add_up_to_the_objects(forking_trace):
    result = rr.replay(forking_trace, ["anon_vma", "cow"])
    for label, model in result.summary["models"].items():
        rows = result.operations.filter(pl.col("model").cast(pl.String) == label)
        for kind, count in model["objects"].items():
            assert rows[f"{kind}_allocated"].sum() == count["allocated"]
            assert rows[f"{kind}_freed"].sum() == count["freed"]


def test_parameters_tell_replays_of_one_model_apart(forking_trace):
    labels = ["anon_vma:kernel=6.18", "anon_vma:kernel=7.3"]
    result = rr.replay(forking_trace, labels)
    assert result.walks["model"].cast(pl.String).unique().sort().to_list() == labels
    assert [m["kernel"] for m in result.summary["models"].values()] == ["6.18", "7.3"]


def test_a_trace_in_memory_replays_alike(forking_trace):
    trace = rr.read_trace(forking_trace)
    in_memory = rr.read_trace(trace.frame(), {"kernel": "7.3.4"})
    first, second = (rr.replay(source, "cow") for source in (trace, in_memory))
    assert first.walks.equals(second.walks)
    assert second.summary["trace"]["path"] is None


def test_progress_ends_at_the_number_of_events(forking_trace):
    seen: list[int] = []
    rr.replay(forking_trace, "cow", batch_size=50, progress=seen.append)
    assert seen == [50, 100, 150, 167]


def test_tables_come_whole_per_model_from_many_threads(forking_trace):
    class Sink:
        def __init__(self) -> None:
            self.rows: dict[str, int] = {}
            self.lock = threading.Lock()

        def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
            with self.lock:
                key = f"{model}/{table}"
                self.rows[key] = self.rows.get(key, 0) + rows.num_rows

    sink = Sink()
    specs = [ModelSpec.parse(name) for name in ("anon_vma", "cow", "cow-poc")]
    summary = engine.run(rr.read_trace(forking_trace), specs, sink=sink, threads=3)
    for label, model in summary["models"].items():
        assert sink.rows[f"{label}/walks"] == model["walks"]
        assert f"{label}/misses" in sink.rows


def test_an_error_in_the_sink_comes_out(forking_trace):
    class Sink:
        def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        engine.run(rr.read_trace(forking_trace), [ModelSpec.parse("cow")], sink=Sink())


# ---- the Arrow boundary ----


def native_replay() -> _native.Replay:
    return _native.Replay(
        model="cow", label="cow", params={}, kernel="7.3", thp="never", use_zero_page=True,
        stack_limit=8 << 20, rows=0, walks="end", visits=False,
    )  # fmt: skip


def test_slices_streams_and_batches_feed_alike(forking_trace):
    whole = next(rr.read_trace(forking_trace).batches(1000))
    reference = native_replay()
    reference.feed(whole)
    reference.finish()
    sliced = native_replay()
    for start in range(0, whole.num_rows, 13):
        sliced.feed(whole.slice(start, 13))
    sliced.finish()
    streamed = native_replay()
    streamed.feed(pa.Table.from_batches([whole.slice(0, 5), whole.slice(5)]))
    streamed.finish()
    assert reference.summary()["walks"] == 129
    assert sliced.summary() == reference.summary()
    assert streamed.summary() == reference.summary()
    assert streamed.row == whole.num_rows


@pytest.mark.parametrize(
    "batch",
    [
        pa.record_batch({"op": pa.array([1], pa.uint8())}),
        pa.record_batch([pa.nulls(1, f.type) for f in CANONICAL_SCHEMA], schema=CANONICAL_SCHEMA),
        pa.record_batch({"text": ["x"]}),
    ],
)
def test_what_is_not_canonical_is_refused(batch):
    with pytest.raises(ValueError, match=r"column|canonical"):
        native_replay().feed(batch)


def test_what_is_not_arrow_is_refused():
    with pytest.raises(TypeError, match="Arrow"):
        native_replay().feed([1, 2, 3])
