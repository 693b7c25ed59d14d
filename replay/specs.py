# SPDX-License-Identifier: GPL-2.0-only
"""What to replay: a model with its parameters, and the kernel rules a trace asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rmapreplay.rmap_models import models
from rmapreplay.traces.errors import ModelError

NEWEST_RULES = "7.3"
"""The kernel rules for traces that do not say which kernel they come from."""


@dataclass(frozen=True)
class ModelSpec:
    """A model and its parameters, as `--model name:key=value,...` gives them.

    Attributes:
        label: the text it was parsed from; names the replay in summaries and tables.
        name: the model.
        params: the parameters given, by name.
    """

    label: str
    name: str
    params: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """Parse `name` or `name:key=value,...`.

        Raises ModelError if there is no such model or parameter, or a value is not one of those
        that the parameter lists.
        """
        name, _, rest = text.partition(":")
        known = {model["name"]: model for model in models()}
        if name not in known:
            raise ModelError(name, f"no such model (there are {', '.join(known)})")
        allowed = {param["name"]: param["values"] for param in known[name]["params"]}
        params: dict[str, str] = {}
        for item in rest.split(",") if rest else []:
            key, equals, value = item.partition("=")
            if not equals:
                raise ModelError(name, f"parameter {item!r} is not of the form key=value")
            if key not in allowed:
                names = ", ".join(allowed) or "none"
                raise ModelError(name, f"no parameter {key!r} (there are {names})")
            if key in params:
                raise ModelError(name, f"parameter {key!r} is given twice")
            choices = allowed[key].split("|")
            if len(choices) > 1 and value not in choices:
                raise ModelError(name, f"{key}={value}: must be one of {', '.join(choices)}")
            params[key] = value
        return cls(text, name, params)

    def kernel(self, metadata: Mapping[str, Any]) -> str:
        """The kernel rules to follow: the parameter `kernel`, or if that is auto the trace's."""
        given = self.params.get("kernel", "auto")
        return kernel_rules(metadata.get("kernel")) if given == "auto" else given


def kernel_rules(release: str | None) -> str:
    """The kernel whose rules a release follows: "6.12", "6.18" or "7.3".

    6.16 let a faulted VMA merge with an unfaulted one (Linux kernel commit 879bca0a2c4f ("mm/vma:
    fix incorrectly disallowed anonymous VMA merges")); 7.3 changed how anonymous pages of private
    file mappings are indexed. A release that cannot be read counts as the newest.
    """
    found = re.match(r"(\d+)\.(\d+)", release or "")
    if not found:
        return NEWEST_RULES
    version = int(found[1]), int(found[2])
    if version < (6, 16):
        return "6.12"
    return "6.18" if version < (7, 3) else NEWEST_RULES
