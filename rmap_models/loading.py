# SPDX-License-Identifier: GPL-2.0-only
"""Finds the classes that model specs name, in files and in modules."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from rmapreplay.rmap_models.base import RmapModel
from rmapreplay.rmap_models.errors import last_line
from rmapreplay.rmap_models.registry import check_model
from rmapreplay.traces.errors import ModelError


def load_file(path: str, attribute: str) -> object:
    """The model called `attribute` in a file of Python, which is run anew. What lies beside the
    file can be imported while it runs.

    Raises ModelError if there is no such file or class, or it fails when run.
    """
    name = f"{path}:{attribute}" if attribute else path
    if not Path(path).is_file():
        raise ModelError(name, f"no such file: {path}")
    module_name = f"rmapreplay_model_file_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses and pickle look for it.
    sys.modules[module_name] = module
    with _imports_from(Path(path).resolve().parent):
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise ModelError(name, f"cannot be imported: {last_line(error)}") from error
    return _attribute(name, module, attribute)


def load_module(module: str, attribute: str) -> object:
    """The model called `attribute` in a module, which may also lie in the current directory.

    Raises ModelError as load_file() does.
    """
    name = f"{module}:{attribute}"
    with _imports_from(Path.cwd()):
        try:
            found = importlib.import_module(module)
        except Exception as error:
            raise ModelError(name, f"cannot be imported: {last_line(error)}") from error
    return _attribute(name, found, attribute)


@contextmanager
def _imports_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _attribute(name: str, module: ModuleType, attribute: str) -> object:
    found: object = getattr(module, attribute, None) if attribute else None
    if found is None:
        there = ", ".join(_models_in(module)) or "none"
        asked = f"no class {attribute}" if attribute else "say which class, file.py:Class"
        raise ModelError(name, f"{asked} (models there: {there})")
    check_model(name, found)
    return found


def _models_in(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, RmapModel)
        and value.__module__ == module.__name__
    ]
