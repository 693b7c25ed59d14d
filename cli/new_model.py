# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay new-model: a model to begin with."""

from __future__ import annotations

import shutil
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer


class Language(str, Enum):
    """What the new model is written in."""

    python = "python"
    c = "c"


def new_model(
    target: Annotated[
        Path, typer.Argument(metavar="FILE|DIR", help="What to make: a file.py, or for C a folder.")
    ],
    lang: Annotated[Language, typer.Option(help="What it is to be written in.")] = Language.python,
) -> None:
    """Write a complete model to change: anonmm in Python, or pte_chain in C.

    Prints how to run it. docs/models.md tells what the parts are for.
    """
    from rmapreplay.traces.errors import RmapReplayError

    if target.exists():
        raise RmapReplayError(f"{target} exists; new-model overwrites nothing")
    if not target.parent.is_dir():
        raise RmapReplayError(f"{target.parent} is no directory to write {target.name} to")
    python = lang is Language.python
    if python != (target.suffix == ".py"):
        asked = "a model in Python is a file.py" if python else "a model in C is a folder, no file"
        raise RmapReplayError(f"{target}: {asked}")
    unfinished = target.with_name(f".{target.name}.new")
    with resources.as_file(resources.files("rmapreplay") / "templates") as templates:
        if python:
            shutil.copyfile(templates / "anonmm.py", unfinished)
        else:
            shutil.copytree(templates / "c_model", unfinished)
    unfinished.rename(target)
    if python:
        typer.echo(f"rmapreplay run TRACE --model {target}:AnonMmModel --model anonmm")
    else:
        typer.echo(f"make -C {target} && rmapreplay run TRACE --model {target}/libpte_chain.so")
