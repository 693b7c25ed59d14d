# SPDX-License-Identifier: GPL-2.0-only
"""How models and kinds of objects are told apart: by colour, dashes and shapes alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Okabe and Ito's colours, which colour-blind readers can tell apart, without the yellow, which is
# not to be seen on white. The first is the page's own text colour, in light and in dark.
COLOURS: Final = (
    "currentColor",
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)
DASHES: Final = ((1, 0), (6, 3), (2, 2), (9, 3, 2, 3), (4, 2, 1, 2), (12, 4), (1, 3), (7, 2, 7, 5))

# In a square from -1 to 1, as SVG and Vega take them.
SHAPES: Final = (
    "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z",
    "M-0.9,-0.9H0.9V0.9H-0.9Z",
    "M0,-1.1L1.1,0.9H-1.1Z",
    "M0,-1.3L1.1,0L0,1.3L-1.1,0Z",
    "M0,1.1L1.1,-0.9H-1.1Z",
    "M-0.4,-1.1H0.4V-0.4H1.1V0.4H0.4V1.1H-0.4V0.4H-1.1V-0.4H-0.4Z",
    "M-1.2,-0.5H1.2V0.5H-1.2Z",
    "M-0.5,-1.2H0.5V1.2H-0.5Z",
)


@dataclass(frozen=True)
class Style:
    """How a model is drawn."""

    colour: str
    dash: tuple[int, ...]
    shape: str


def styles(models: list[str], reference: str) -> dict[str, Style]:
    """A style for each model; the reference has the first. No two are alike, until there are more
    than a hundred."""
    ordered = [reference, *(model for model in models if model != reference)]
    made = {
        model: Style(COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], SHAPES[i % len(SHAPES)])
        for i, model in enumerate(ordered)
    }
    return {model: made[model] for model in models}


def kind_colours(kinds: list[str]) -> dict[str, str]:
    """A colour for each kind of object. On areas a dark yellow can be seen."""
    usable = (*COLOURS[1:], "#999999", "#B8A800")
    return {kind: usable[i % len(usable)] for i, kind in enumerate(kinds)}
