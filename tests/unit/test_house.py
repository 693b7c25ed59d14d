# SPDX-License-Identifier: GPL-2.0-only
"""The house is as docs/architecture.md has it: its folders, the files named there, and which way
imports and includes point."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text()

# What each may import beside itself: what stands to its right in the house, and what is named here.
ORDER = [
    {"cli"},
    {"analysis", "batch"},
    {"testing"},
    {"replay"},
    {"traces", "rmap_models"},
]
EXCEPTIONS = {
    ("analysis", "batch"): {"analysis/report/results.py"},
    ("rmap_models", "traces"): {"rmap_models/loading.py", "rmap_models/registry.py"},
}
FOLDERS = sorted(set().union(*ORDER))

_SOURCES = ("traces", "replay", "rmap_models")
_FOREIGN = re.compile(r'#include [<"](Python\.h|nanobind/|arrow/|fstream|iostream)')


def imports(path):
    """What a file imports from the package: folders, `_native`, or "", which is the public face."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "rmapreplay":
                yield rest.split(".")[0]


def below(folder):
    """What stands to the right of a folder."""
    (level,) = (i for i, folders in enumerate(ORDER) if folder in folders)
    return set().union(*ORDER[level + 1 :])


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        for name in set(imports(path)) & set(FOLDERS) - {folder}:
            where = str(path.relative_to(ROOT))
            assert name in below(folder) or where in EXCEPTIONS.get((folder, name), ()), (
                f"{where} imports rmapreplay.{name}"
            )


def test_exceptions_are_needed():
    for (folder, name), files in EXCEPTIONS.items():
        assert name not in below(folder)
        for file in files:
            assert name in set(imports(ROOT / file)), file


def test_models_take_only_errors_from_traces():
    for path in (ROOT / "rmap_models").rglob("*.py"):
        for found in re.findall(r"rmapreplay\.traces[\w.]*", path.read_text()):
            assert found == "rmapreplay.traces.errors", path


@pytest.mark.parametrize("folder", _SOURCES)
def test_includes_point_one_way(folder):
    allowed = {"replay": set(_SOURCES), "traces": {"traces"}, "rmap_models": {"rmap_models"}}
    files = [path for suffix in ("cpp", "hpp") for path in (ROOT / folder).rglob(f"*.{suffix}")]
    assert files
    for path in files:
        for header in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE):
            right = header.split("/")[0] in allowed[folder]
            assert right or (folder, header) == ("rmap_models", "traces/native/event.hpp"), path


def test_the_core_knows_no_python():
    core = [path for folder in _SOURCES for path in (ROOT / folder / "native").glob("*.[ch]pp")]
    binding = [p for p in core if p.name.startswith("bind_") or p.name == "module.cpp"]
    assert any(_FOREIGN.search(path.read_text()) for path in binding)
    for path in set(core) - set(binding):
        assert not _FOREIGN.search(path.read_text()), path


def test_every_folder_has_its_row():
    house = TEXT[TEXT.index("## The house") : TEXT.index("## How data flows")]
    rows = {
        name.split("/")[0]
        for row in re.findall(r"^\| (`.*?) \|", house, re.MULTILINE)
        for name in re.findall(r"`([\w/]+/)`", row)
    }
    here = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."}
    assert rows <= here
    assert set(FOLDERS) | {"src", "templates", "tests", "benchmarks", "docs"} == rows


def test_every_file_that_is_named_is_there():
    folders = [*FOLDERS, "src", "templates", "tests", "benchmarks", "docs"]
    known = {path.name for folder in folders for path in (ROOT / folder).rglob("*.?*")}
    named = set(re.findall(r"`(?:[\w/]+/)?(\w+\.(?:py|cpp|hpp))`", TEXT))
    assert len(named) > 30
    assert named - known == set()
