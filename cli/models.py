# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay models: what there is to replay under."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from rmapreplay.cli.tables import Format, print_table

if TYPE_CHECKING:
    from rmapreplay.rmap_models import CounterInfo


def models(
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
) -> None:
    """List the models: parameters, objects, locks, and what each counts."""
    from rmapreplay.rmap_models import models as list_models

    found = list_models()
    if output is Format.json:
        typer.echo(json.dumps(found, indent=2))
        return
    for number, model in enumerate(found):
        if number:
            typer.echo("")
        typer.echo(f"{model['name']}: {model['doc']}")
        if model["params"]:
            print_table(
                ["parameter", "values", "default", ""],
                [[p["name"], p["values"], p["initial"], p["doc"]] for p in model["params"]],
                left=4,
            )
            typer.echo("")
        print_table(["object", "bytes"], [[name, size] for name, size in model["objects"].items()])
        if model["locks"]:
            typer.echo("")
            print_table(
                ["lock", "type", "what it serialises"],
                [[lock["name"], lock["type"], lock["covers"]] for lock in model["locks"]],
                left=3,
            )
        _print_counters("counted per walk", model["walk_counters"])
        _print_counters("counted per operation", model["op_counters"])


def _print_counters(title: str, counters: list[CounterInfo]) -> None:
    typer.echo("")
    if counters:
        print_table([title, "as", ""], [[c["name"], c["cost"], c["doc"]] for c in counters], left=3)
    else:
        typer.echo(f"{title}: nothing")
