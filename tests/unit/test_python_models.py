# SPDX-License-Identifier: GPL-2.0-only
"""Models in Python: equal to native ones, and told apart when they fail."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr
from rmapreplay import _native
from rmapreplay.rmap_models import base

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "traces" / "corpus"
TEMPLATE = f"{ROOT / 'templates' / 'anonmm.py'}:AnonMmModel"
GLOBAL = f"{ROOT / 'tests' / 'models' / 'anon_vma_global.py'}:AnonVmaGlobal"
TRACES = sorted(
    path for path in CORPUS.glob("**/*.parquet") if not path.name.endswith(".truth.parquet")
)

HEAP = 0x7F0000000000
PAGE = 4096
READ, READ_WRITE = 1, 3
MAP_PRIVATE_ANONYMOUS = 0x22
MREMAP_FIXED = 3

CALLBACKS = [
    "mm_init", "mm_fork_begin", "mm_fork_end", "mm_exit", "anon_vma_prepare", "anon_vma_fork",
    "anon_vma_clone", "unlink_anon_vmas", "pre_update_vma", "post_update_vma", "vma_is_fork_child",
    "home", "root_home", "folios_homed", "folios_unhomed", "page_copied_for_move", "rmap_walk",
    "validate",
]  # fmt: skip
PAGE_CALLBACKS = ["page_add_rmap", "page_remove_rmap"]

FORK = 17  # row of every_callback


class Everywhere(rr.RmapModel):
    """looks into every mm"""

    def __init__(self, machine: rr.Machine, kernel: str) -> None:
        super().__init__(machine, kernel)
        self.mms: list[int] = []

    def mm_init(self, mm: int) -> None:
        self.mms.append(mm)

    def mm_fork_begin(self, child: int, parent: int) -> None:
        self.mms.append(child)

    def mm_exit(self, mm: int) -> None:
        self.mms.remove(mm)

    def home(self, vma: int) -> int:
        return 1

    def rmap_walk(self, walk: rr.Walk) -> None:
        for mm in self.mms:
            for vma in self.machine.vmas(mm):
                if walk.overlaps(vma) and not walk.visit(vma):
                    return


def heap(op, page, pages, pid=100, **more):
    return {"op": op, "pid": pid, "addr": HEAP + page * PAGE, "len": pages * PAGE, **more}


def write(page, pid=100):
    return {"op": "fault", "pid": pid, "addr": HEAP + page * PAGE, "write": True, "source": "user"}


@pytest.fixture(scope="module")
def every_callback(write_rows, tmp_path_factory) -> Path:
    """A trace in which a model is called in every way."""
    rows = [
        {"op": "exec", "pid": 100},
        heap("mmap", 0, 16, flags=MAP_PRIVATE_ANONYMOUS, prot=READ_WRITE),
        *(write(page) for page in range(8)),
        heap("mmap", 16, 4, flags=MAP_PRIVATE_ANONYMOUS, prot=READ_WRITE),
        heap("mprotect", 4, 4, prot=READ),
        heap("mmap", 36, 4, flags=MAP_PRIVATE_ANONYMOUS, prot=READ_WRITE),
        write(36),
        heap("mprotect", 36, 4, prot=READ),
        heap("mmap", 32, 4, flags=MAP_PRIVATE_ANONYMOUS, prot=READ_WRITE),
        heap("mprotect", 36, 4, prot=READ_WRITE),
        {"op": "fork", "pid": 100, "flags": 0, "child": 200, "child_tid": 200},
        heap("swap_out", 1, 1),
        heap("swap_out", 1, 1, pid=200),
        write(1, pid=200),
        heap("walk", 0, 1, kind="all"),
        heap("mremap", 4, 4, new_addr=HEAP + 1000 * PAGE, new_len=4 * PAGE, flags=MREMAP_FIXED),
        {"op": "exit", "pid": 200},
        {"op": "exit", "pid": 100},
    ]
    return write_rows(tmp_path_factory.mktemp("traces") / "every.parquet", rows)


def spy(note, **attributes):
    """A subclass of Everywhere that calls note(callback, args) first, whatever it is called for."""

    def method(name):
        def called(self, *args):
            note(name, args)
            return getattr(super(spied, self), name)(*args)

        return called

    methods = {name: method(name) for name in CALLBACKS + PAGE_CALLBACKS}
    spied = type("Spied", (Everywhere,), {**methods, **attributes})
    return spied


def test_every_callback_comes(every_callback):
    seen = []
    model = spy(lambda name, args: seen.append((name, args)), index_is_address=True)
    result = rr.replay(every_callback, model, walks="none", verify="all")
    assert {name for name, _ in seen} == set(CALLBACKS)
    reasons = {args[2] for name, args in seen if name == "anon_vma_clone"}
    assert reasons == {"split", "merge_unfaulted", "remap"}
    assert result.summary["models"]["Spied"]["misses"] == 0
    numbers = [arg for name, args in seen for arg in args if name not in ("rmap_walk", "validate")]
    assert {type(number) for number in numbers} == {int, str}
    seen.clear()
    rr.replay(every_callback, spy(lambda name, args: seen.append((name, args)), needs_pages=True))
    pages = [name for name, _ in seen if name in PAGE_CALLBACKS]
    assert pages.count("page_add_rmap") == pages.count("page_remove_rmap") > 8
    assert not {name for name, _ in seen} & {"folios_homed", "folios_unhomed"}


@pytest.mark.parametrize("callback", CALLBACKS + PAGE_CALLBACKS)
def test_an_exception_names_callback_row_and_place(callback, every_callback):
    pages = callback in PAGE_CALLBACKS

    def fail(name, args):
        if name == callback:
            raise ZeroDivisionError("division\nby zero")

    model = spy(fail, needs_pages=pages, index_is_address=not pages)
    with pytest.raises(rr.ModelError) as caught:
        rr.replay(every_callback, model, walks="none", verify="all")
    error = caught.value
    assert error.model == "Spied"
    assert error.event is not None
    assert re.fullmatch(
        rf"{callback}\(\): ZeroDivisionError: division by zero "
        r"\(.*test_python_models.py, line \d+\)",
        error.reason,
    )
    assert isinstance(error.__cause__.__cause__, ZeroDivisionError)
    beside = rr.replay(every_callback, ["cow", model], walks="none", verify="all")
    assert list(beside.summary["models"]) == ["cow"]
    assert str(beside.failed["Spied"]) == str(error)
    assert isinstance(beside.failed["Spied"].__cause__.__cause__, ZeroDivisionError)


def test_the_row_is_the_one_that_failed(every_callback):
    def fail(name, args):
        if name == "mm_fork_end":
            raise ValueError("not here")

    with pytest.raises(rr.ModelError, match="mm_fork_end.*ValueError: not here") as caught:
        rr.replay(every_callback, spy(fail))
    assert caught.value.event == FORK


def test_keyboard_interrupt_passes(every_callback):
    def interrupt(name, args):
        if name == "rmap_walk":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rr.replay(every_callback, spy(interrupt))


def failing(**methods):
    return type("Bad", (Everywhere,), methods)


def walk_with(body):
    return failing(rmap_walk=lambda self, walk: body(self, walk))


def first_vma(self, walk):
    return next(v for v in self.machine.vmas(self.mms[0]) if walk.overlaps(v))


def faulted_vmas(self):
    return [v for v in self.machine.vmas(self.mms[0]) if self.machine.vma(v).faulted]


def swallow(self, walk):
    with contextlib.suppress(RuntimeError):
        walk.visit(77)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (walk_with(lambda self, walk: walk.visit(77)),
         r"rmap_walk\(\): offered VMA 77, which is none"),
        (walk_with(swallow), r"rmap_walk\(\): offered VMA 77, which is none"),
        (walk_with(lambda self, walk: [walk.visit(first_vma(self, walk)) for _ in "ab"]),
         r"rmap_walk\(\): offered VMA 0x\w+-0x\w+ of mm 1 \(pid 100\) twice"),
        (walk_with(lambda self, walk: [walk.visit(v) for v in faulted_vmas(self)]),
         r"offered VMA 0x\w+-0x\w+ of mm 1 \(pid 100\), which has no page of the folio"),
        (walk_with(lambda self, walk: walk.count("steps")),
         r"counts in no walk_counter 'steps' \(there are none\)"),
        (walk_with(lambda self, walk: self.machine.vma(0)), "asked about VMA 0, which is none"),
        (walk_with(lambda self, walk: self.machine.find_vma(99, 0)),
         "asked about mm 99, which is none"),
        (walk_with(lambda self, walk: walk.nothing), "AttributeError"),
        (failing(home=lambda self, vma: "here"), r"home\(\): returned 'here', which is no number"),
        (failing(home=lambda self, vma: -1), r"home\(\): returned -1, which is no number from 0"),
        (failing(home=lambda self, vma: 1 << 32), r"home\(\): returned 4294967296, which is no"),
        (failing(home=lambda self, vma: None), r"home\(\): returned None, which is no number"),
        (failing(anon_vma_prepare=lambda self, vma: None),
         r"anon_vma_prepare\(\): returned None for VMA 0x\w+-0x\w+ of mm 1 \(pid 100\), which is"),
        (failing(anon_vma_prepare=lambda self, vma: 0), r"anon_vma_prepare\(\): returned 0 for"),
        (failing(anon_vma_fork=lambda self, child, parent: 1 << 64),
         r"anon_vma_fork\(\): returned 18446744073709551616 for VMA"),
        (failing(mm_init=lambda self, mm: self.machine.allocated("thing")),
         r"mm_init\(\): allocates objects 'thing' \(there are none\)"),
        (failing(objects={"thing": 8}, mm_init=lambda self, mm: self.machine.freed("thing")),
         r"mm_init\(\): frees 1 of 'thing', of which 0 live"),
        (failing(objects={"a": 8}, mm_init=lambda self, mm: self.machine.allocated("a", -2)),
         r"mm_init\(\): counts -2"),
        (failing(mm_init=lambda self, mm: self.machine.count("things")),
         r"mm_init\(\): counts in no op_counter 'things'"),
        (failing(mm_fork_end=lambda self, child, parent: self.machine.vma("x")),
         r"mm_fork_end\(\): TypeError: vma\(\): incompatible function arguments"),
    ],
)  # fmt: skip
def test_nothing_that_comes_back_is_trusted(model, message, every_callback):
    with pytest.raises(rr.ModelError, match=message) as caught:
        rr.replay(every_callback, model)
    assert caught.value.event is not None
    assert "\n" not in str(caught.value)


def test_numbers_that_stand_for_whole_numbers_will_do(every_callback):
    numpy_like = type("Index", (), {"__index__": lambda self: 7})
    model = failing(home=lambda self, vma: numpy_like())
    assert rr.replay(every_callback, model).summary["models"]["Bad"]["misses"] == 0


def test_the_machine_answers_only_while_it_calls(every_callback):
    kept = {}

    def keep(self, walk):
        kept.update(machine=self.machine, walk=walk, vma=first_vma(self, walk))
        kept["copy"] = self.machine.vma(kept["vma"])

    rr.replay(every_callback, walk_with(keep))
    with pytest.raises(RuntimeError, match="only while it calls the model"):
        kept["machine"].vma(kept["vma"])
    with pytest.raises(RuntimeError, match="the walk is over"):
        kept["walk"].visit(kept["vma"])
    with pytest.raises(RuntimeError, match="the walk is over"):
        assert kept["walk"].index
    assert kept["copy"].start == HEAP
    assert kept["copy"].faulted

    def early(self, machine, kernel):
        machine.allocated("thing")

    with pytest.raises(rr.ModelError, match=r"__init__\(\): RuntimeError: the machine answers"):
        rr.replay(every_callback, failing(__init__=early, objects={"thing": 1}))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"objects": {"Thing": 8}}, "objects 'Thing' is not made of a-z"),
        ({"objects": {"thing": 0}}, "objects 'thing' has no bytes"),
        ({"objects": {"thing": "8"}}, "objects"),
        ({"objects": {f"thing{i}": 8 for i in range(8)}}, "has 8 of objects, at most 7"),
        ({"objects": {"folios": 8}}, "objects 'folios' is what a column is called"),
        ({"walk_counters": (rr.Counter("visits", "step", ""),)}, "'visits' is what a column"),
        ({"walk_counters": (rr.Counter("a", "steps", ""),)}, "'steps' is not one of step, lookup"),
        ({"op_counters": (rr.Counter("a", "step", ""),) * 2}, "op_counters 'a' is there twice"),
        ({"op_counters": (rr.Counter("a", "lock", "", "b"),)}, "lock 'b', which is none of locks"),
        ({"op_counters": ("a",)}, "op_counters: AttributeError: 'str' object has no"),
        ({"name": 7}, "name: not of the right type"),
    ],
)
def test_what_a_class_says_of_itself_is_checked(attributes, message, every_callback):
    with pytest.raises(rr.ModelError, match=message):
        rr.replay(every_callback, failing(**attributes))


def test_a_home_that_changes_breaks_an_invariant(every_callback):
    def home(self, vma):
        self.asked = getattr(self, "asked", 0) + 1
        return self.asked

    message = r"the home of VMA 0x\w+-0x\w+ of mm 1 \(pid 100\) was 1 and is 2"
    with pytest.raises(rr.InvariantError, match=message):
        rr.replay(every_callback, failing(home=home), verify="all")


def test_an_assertion_of_validate_is_a_broken_invariant(every_callback):
    def validate(self, live):
        assert len(live.mms) < 2, f"{len(live.mms)} mms"

    message = r"AssertionError: 2 mms .*test_python_models.py, line"
    with pytest.raises(rr.InvariantError, match=message) as caught:
        rr.replay(every_callback, failing(validate=validate), verify="all")
    assert caught.value.event == FORK
    assert rr.replay(every_callback, failing(validate=validate)).summary["events"]


def test_live_is_what_the_page_tables_have(every_callback):
    seen = []
    model = failing(validate=lambda self, live: seen.append((live.mms == self.mms, live.homed)))
    rr.replay(every_callback, model, verify="all")
    assert all(right for right, _ in seen)
    assert seen[9] == (True, {1: 9})  # eight pages and the stack's


@pytest.mark.parametrize("name", ["Machine", "Walk", "Vma", "Mm"])
def test_the_protocols_are_what_the_machine_has(name):
    protocol, native = getattr(base, name), getattr(_native, name)

    def public(cls):
        return {each for each in vars(cls) if not each.startswith("_")}

    assert public(protocol) == public(native)
    for each in public(protocol):
        prose = isinstance(vars(protocol)[each], property)
        assert prose != callable(vars(native)[each]), each


# ---- against native models ----


def split(frame: pl.DataFrame) -> list[pl.DataFrame]:
    return [rows.drop("model") for rows in frame.partition_by("model")]


def assert_equal(result: rr.Result, *tables: str) -> None:
    """The first model's rows are the second's, in all columns that the first one has."""
    for table in tables:
        ours, native = split(getattr(result, table))
        columns = [name for name in ours.columns if ours[name].null_count() == 0]
        assert ours.height > 0, table
        assert ours.select(columns).equals(native.select(columns)), table


@pytest.mark.parametrize("trace", TRACES, ids=lambda path: path.stem)
def test_the_template_is_the_native_anonmm(trace):
    result = rr.replay(trace, [TEMPLATE, "anonmm"], walks="scan:1", verify=1 << 30)
    assert_equal(result, "walks", "memory")
    summary = result.summary["models"][TEMPLATE]
    assert summary["misses"] == 0
    assert summary["objects"]["anonmm"]["live"] == 0
    ours, native = (result.summary["models"][label]["operations"] for label in (TEMPLATE, "anonmm"))
    for op, costs in ours.items():
        assert costs["counters"]["refcounts"] == native[op]["counters"]["refcounts"]


@pytest.mark.parametrize("name", ["forky", "merge", "nginx", "rmap", "scen", "python"])
def test_a_port_of_anon_vma_global_is_the_native_one(name):
    trace = CORPUS / f"{name}.parquet"
    result = rr.replay(
        trace, [GLOBAL, "anon_vma_global"], walks="scan:3", visits=True, verify="sampled"
    )
    assert_equal(result, "walks", "visits", "memory")
    ours, native = (
        result.summary["models"][label]["operations"] for label in (GLOBAL, "anon_vma_global")
    )
    assert ours.keys() == native.keys()
    for op, costs in ours.items():
        shared = {key: native[op]["counters"][key] for key in costs["counters"]}
        assert costs["counters"] == shared, op


def test_same_input_same_result_whatever_runs_beside_it():
    trace = CORPUS / "nginx.parquet"
    models = [TEMPLATE, GLOBAL, f"{GLOBAL}:share=no", "anonmm", "anon_vma_global"]
    together = rr.replay(trace, models, walks="scan:4", batch_size=257)
    for label in models[:3]:
        alone = rr.replay(trace, label, walks="scan:4", threads=1)
        for table in ("walks", "operations", "memory", "misses"):
            shown = getattr(alone, table)
            beside = getattr(together, table).filter(pl.col("model") == label)
            assert beside.select(shown.columns).equals(shown), (label, table)
