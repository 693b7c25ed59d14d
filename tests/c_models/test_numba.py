# SPDX-License-Identifier: GPL-2.0-only
"""Models whose callbacks numba compiles."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr

pytest.importorskip("numba")

from rmapreplay.rmap_models import compiled

ROOT = Path(__file__).parents[2]
TEMPLATE = f"{ROOT / 'templates' / 'numba_model.py'}:model"

STRUCTURES = (
    compiled.Vma,
    compiled.Mm,
    compiled.Walk,
    compiled.Live,
    compiled.Ops,
    compiled.ObjectKind,
    compiled.CounterKind,
    compiled.LockKind,
)


@pytest.mark.parametrize("trace", ["forky", "bash", "redis", "merge", "captured/gc_mremap"])
def test_the_template_finds_what_the_native_model_finds(trace):
    path = ROOT / "traces" / "corpus" / f"{trace}.parquet"
    result = rr.replay(path, [TEMPLATE, "anonmm"], walks="scan:4,kind=all", verify="sampled")
    assert result.failed == {}
    ours, native = result.summary["models"].values()
    assert ours["misses"] == 0
    assert (ours["walks"], ours["hits"]) == (native["walks"], native["hits"])
    # Recorded walks may stop, and the template asks a family from its eldest on.
    frames = [
        result.walks.filter(pl.col("model").cast(pl.String) == model, kind="all")
        for model in (TEMPLATE, "anonmm")
    ]
    columns = ["walk", "folio", "visits", "hits", "useless"]
    assert frames[0].select(columns).equals(frames[1].select(columns))
    assert frames[0].height > 0


def test_two_replays_have_states_of_their_own(forking_trace):
    first = rr.replay(forking_trace, TEMPLATE).summary["models"][TEMPLATE]
    second = rr.replay(forking_trace, TEMPLATE).summary["models"][TEMPLATE]
    assert first["visits"] == second["visits"] > 0
    assert first["objects"]["anonmm"]["live"] == second["objects"]["anonmm"]["live"] == 3


def test_a_callback_that_fails_is_named(forking_trace):
    broken = compiled.CompiledModel("broken", "fails at the first fork")

    @broken.callback
    def init(machine, params, state):
        return 0

    @broken.callback
    def anon_vma_prepare(state, vma):
        compiled.record(vma).anon_vma = 1
        return 0

    @broken.callback
    def anon_vma_fork(state, child, parent):
        return -9

    @broken.callback
    def home(state, vma, home):
        home[0] = 1
        return 0

    @broken.callback
    def rmap_walk(state, walk):
        return 0

    result = rr.replay(forking_trace, [broken, "cow"])
    assert list(result.summary["models"]) == ["cow"]
    assert str(result.failed["broken"]) == (
        "model broken, event 66: anon_vma_fork(): returned -9 without saying why"
    )


def test_what_is_no_callback(forking_trace):
    model = compiled.CompiledModel("partial", "has nothing")

    def walk_rmap(state, walk):
        return 0

    with pytest.raises(KeyError, match="walk_rmap"):
        model.callback(walk_rmap)
    with pytest.raises(rr.ModelError, match="has no init"):
        rr.replay(forking_trace, model)


def test_records_are_laid_out_as_in_the_header(compile_model, tmp_path):
    """A C program prints sizes and offsets; those of the machine's functions come after ours."""
    lines = []
    for kind in (*STRUCTURES, compiled.Machine):
        tag = kind.__name__
        for name, *_ in kind._fields_:
            lines.append(f'printf("{tag}.{name} %zu\\n", offsetof(struct {tag}, {name}));')
        if kind is not compiled.Machine:
            lines.append(f'printf("{tag} %zu\\n", sizeof(struct {tag}));')
    source = tmp_path / "layout.c"
    source.write_text(
        '#include <stdio.h>\n#include "rmap_model.h"\n'
        "int main(void) {\n" + "\n".join(lines) + "\nreturn 0; }\n"
    )
    program = tmp_path / "layout"
    subprocess.run(
        ["cc", "-std=c11", f"-I{rr.include_dir()}", "-o", str(program), str(source)], check=True
    )
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    expected = []
    for kind in (*STRUCTURES, compiled.Machine):
        expected += [
            f"{kind.__name__}.{name} {getattr(kind, name).offset}" for name, *_ in kind._fields_
        ]
        if kind is not compiled.Machine:
            expected.append(f"{kind.__name__} {ctypes.sizeof(kind)}")
    assert printed.splitlines() == expected
