# SPDX-License-Identifier: GPL-2.0-only
"""What to replay: a model with its parameters, and the kernel rules a trace asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from rmapreplay.rmap_models import ModelInfo, registry
from rmapreplay.rmap_models.loading import load_file, load_module
from rmapreplay.traces.errors import ModelError

NEWEST_RULES = "7.3"
"""The kernel rules for traces that do not say which kernel they come from."""


@dataclass(frozen=True)
class ModelSpec:
    """A model and its parameters, as `--model` gives them.

    Attributes:
        label: the text it was parsed from, or the name of the class; names the replay in summaries
            and tables.
        name: the model, without its parameters.
        params: the parameters given, by name.
        source: a built-in model's name, a subclass of RmapModel, the path of a C model's library,
            or an object with `rmap_model_ops`.
    """

    label: str
    name: str
    params: Mapping[str, str]
    source: Any = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """Parse `MODEL` or `MODEL:key=value,...`, where MODEL is a name (built in, registered, or
        of an installed package), `file.py:Class`, `package.module:Class` or `file.so`.

        Raises ModelError if there is no such model, it cannot be loaded, it has no such parameter,
        or a value is not one of those that the parameter lists.
        """
        name, rest, source = _find(text)
        # What a library takes shows when it is loaded, where it can do no harm.
        info = None if isinstance(source, Path) else info_of(name, source)
        return cls(text, name, _parse_params(name, rest, info), source)

    @classmethod
    def of(cls, model: object) -> ModelSpec:
        """What `rmapreplay.replay` takes for a model: the text of a spec, a subclass of RmapModel,
        or an object with `rmap_model_ops`. Raises ModelError as `parse` does."""
        if isinstance(model, cls):
            return model
        if isinstance(model, str):
            return cls.parse(model)
        asked = getattr(model, "__name__", type(model).__name__)
        registry.check_model(asked, model)
        name = info_of(asked, model)["name"]
        return cls(name, name, {}, model)

    def kernel(self, metadata: Mapping[str, Any]) -> str:
        """The kernel rules to follow: the parameter `kernel`, or if that is auto the trace's."""
        given = self.params.get("kernel", "auto")
        return kernel_rules(metadata.get("kernel")) if given == "auto" else given


def split_specs(text: str) -> list[str]:
    """The specs in a list of them: a part `key=value` is a parameter of the spec before it, so that
    `anon_vma:kernel=6.18,cow` is two."""
    specs: list[str] = []
    for part in text.split(","):
        if specs and ":" in specs[-1] and re.fullmatch(r"\w+=[^:]*", part):
            specs[-1] += f",{part}"
        else:
            specs.append(part)
    return specs


def info_of(name: str, source: Any) -> ModelInfo:
    """What a model says of itself. Raises ModelError if that is not right."""
    from rmapreplay import _native

    try:
        return cast("ModelInfo", _native.model_info(source))
    except (ValueError, RuntimeError) as error:
        raise ModelError(name, str(error)) from error


def _find(text: str) -> tuple[str, str, Any]:
    """The model that a spec begins with: its name, what follows, and what it is."""
    head, _, rest = text.partition(":")
    if head.endswith(".so"):
        if not Path(head).is_file():
            raise ModelError(head, f"no such file: {head}")
        return head, rest, Path(head)
    if head.endswith(".py"):
        attribute, _, params = rest.partition(":")
        name = f"{head}:{attribute}"
        return name, params, load_file(head, attribute)
    known = registry.find(head)
    if known is not None:
        return head, rest, known
    attribute, _, params = rest.partition(":")
    if attribute.isidentifier():
        name = f"{head}:{attribute}"
        return name, params, load_module(head, attribute)
    raise ModelError(
        head,
        f"no such model (there are {', '.join(registry.names())}; or say file.py:Class, "
        "package.module:Class or file.so)",
    )


def _parse_params(name: str, text: str, info: ModelInfo | None) -> dict[str, str]:
    allowed = {param["name"]: param["values"] for param in info["params"]} if info else None
    params: dict[str, str] = {}
    for item in text.split(",") if text else []:
        key, equals, value = item.partition("=")
        if not equals:
            raise ModelError(name, f"parameter {item!r} is not of the form key=value")
        if key in params:
            raise ModelError(name, f"parameter {key!r} is given twice")
        params[key] = value
        if allowed is None:
            continue
        if key not in allowed:
            names = ", ".join(allowed) or "none"
            raise ModelError(name, f"no parameter {key!r} (there are {names})")
        choices = allowed[key].split("|")
        if len(choices) > 1 and value not in choices:
            raise ModelError(name, f"{key}={value}: must be one of {', '.join(choices)}")
    return params


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
