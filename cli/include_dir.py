# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay include-dir: where rmap_model.h is."""

from __future__ import annotations

import typer


def include_dir() -> None:
    """Print the folder that rmap_model.h is in, for models in C.

    cc -std=c11 -O2 -fPIC -shared -I$(rmapreplay include-dir) -o libmine.so mine.c
    """
    from rmapreplay.rmap_models import include_dir as folder

    typer.echo(folder())
