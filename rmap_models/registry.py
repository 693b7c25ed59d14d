# SPDX-License-Identifier: GPL-2.0-only
"""Models by name: those built in, those registered, and those of installed packages."""

from __future__ import annotations

import sys
from importlib import metadata

from rmapreplay.rmap_models.base import ModelOps, RmapModel
from rmapreplay.rmap_models.errors import last_line
from rmapreplay.traces.errors import ModelError

ENTRY_POINTS = "rmapreplay.models"
"""The entry point group in which packages offer models: name = "pkg.mod:Class"."""

_registered: dict[str, object] = {}


def register(name: str, model: type[RmapModel] | ModelOps) -> None:
    """Let `model`, a subclass of RmapModel or an object with `rmap_model_ops`, be called `name` in
    model specs of this process. A name that was registered before now stands for this one.

    Raises ModelError if a built-in model has the name, or it cannot be told from a file's, a
    class's or a parameter.
    """
    if name in builtin_names():
        raise ModelError(name, "cannot be registered: a built-in model has that name")
    if not name or any(c in name for c in ":,= /") or name.endswith((".py", ".so")):
        raise ModelError(repr(name), "cannot be registered: no name for a model")
    check_model(name, model)
    _registered[name] = model


def check_model(name: str, model: object) -> None:
    """Raises ModelError if `model` is neither a class that can be a model nor has the address of a
    C model's functions; `name` is what it was asked for as."""
    if isinstance(getattr(model, "rmap_model_ops", None), int):
        return
    if not isinstance(model, type):
        raise ModelError(name, f"is {type(model).__name__}, not a subclass of rmapreplay.RmapModel")
    if not issubclass(model, RmapModel) or model is RmapModel:
        raise ModelError(name, f"class {model.__name__} is no subclass of rmapreplay.RmapModel")
    lacking = sorted(getattr(model, "__abstractmethods__", ()))
    if lacking:
        raise ModelError(name, f"class {model.__name__} lacks {', '.join(lacking)}")


def builtin_names() -> list[str]:
    """The built-in models, in the order of their registration."""
    from rmapreplay import _native

    return [model["name"] for model in _native.models()]


def find(name: str) -> object | None:
    """What `_native.Replay` takes for the model of this name: the name itself if it is built in.
    None if there is none.

    Raises ModelError if a package offers it but it cannot be loaded.
    """
    offered = list(metadata.entry_points(group=ENTRY_POINTS, name=name))
    if name in builtin_names():
        _tell_clashes(name, offered, "a built-in model has")
        return name
    if name in _registered:
        _tell_clashes(name, offered, "a registered model has")
        return _registered[name]
    if not offered:
        return None
    _tell_clashes(name, offered[1:], f"{_package(offered[0])} has taken")
    return _load(offered[0])


def installed() -> dict[str, object]:
    """Registered models, then those of installed packages, by name. A package's that cannot be
    loaded is told in one line on standard error, and left out."""
    found = dict(_registered)
    for name in sorted(metadata.entry_points(group=ENTRY_POINTS).names):
        try:
            model = find(name)
        except ModelError as error:
            _tell(f"passed over: {error}")
            continue
        if model is not None and model != name:
            found[name] = model
    return found


def names() -> list[str]:
    """All names that a model spec may begin with."""
    offered = metadata.entry_points(group=ENTRY_POINTS).names
    return list(dict.fromkeys([*builtin_names(), *_registered, *sorted(offered)]))


def _load(entry: metadata.EntryPoint) -> object:
    try:
        model: object = entry.load()
    except Exception as error:
        reason = f"{_package(entry)} offers it, but {entry.value}: {last_line(error)}"
        raise ModelError(entry.name, reason) from error
    check_model(entry.name, model)
    return model


def _tell_clashes(name: str, entries: list[metadata.EntryPoint], taken: str) -> None:
    for entry in entries:
        _tell(f"model {name} of {_package(entry)} is passed over: {taken} that name")


def _package(entry: metadata.EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist else "a package"


def _tell(line: str) -> None:
    print(f"rmapreplay: {line}", file=sys.stderr)
