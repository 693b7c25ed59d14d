# SPDX-License-Identifier: GPL-2.0-only
"""Compiles models in C."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import rmapreplay as rr

EVERY_VMA = Path(__file__).with_name("every_vma.c")

CompileModel = Callable[..., Path]


@pytest.fixture(scope="session")
def compile_model(tmp_path_factory: pytest.TempPathFactory) -> CompileModel:
    """compile_model(source=every_vma.c, **macros): the shared library made of it."""
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("no C compiler (cc)")
    folder = tmp_path_factory.mktemp("c_models")

    def build(source: Path = EVERY_VMA, **macros: str) -> Path:
        defines = [f"-D{name}={value}" for name, value in macros.items()]
        name = hashlib.sha256(repr((source, defines)).encode()).hexdigest()[:12]
        library = folder / f"{source.stem}-{name}.so"
        if not library.exists():
            subprocess.run(
                [
                    *(cc, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"),
                    *("-Wno-unused-function", f"-I{rr.include_dir()}", *defines),
                    *("-o", str(library), str(source)),
                ],
                check=True,
            )
        return library

    return build
