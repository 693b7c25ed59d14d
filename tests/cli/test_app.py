# SPDX-License-Identifier: GPL-2.0-only
"""What all subcommands share, and rmapreplay models."""

from __future__ import annotations

import json
import subprocess
import sys


def test_help_names_the_subcommands(cli):
    done = cli("--help")
    assert done.returncode == 0
    for command in ("run", "import", "info", "models"):
        assert command in done.stdout


def test_no_arguments_is_help_not_success(cli):
    done = cli()
    assert done.returncode == 2
    assert "models" in done.stdout + done.stderr


def test_version(cli):
    done = cli("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("rmapreplay ")


def test_help_loads_nothing_heavy():
    script = (
        "import sys; import rmapreplay.cli.app;"
        "print([m for m in ('pyarrow', 'polars', 'rmapreplay._native') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_models_lists_parameters_and_objects(cli):
    found = json.loads(cli("models", "--format", "json").stdout)
    by_name = {model["name"]: model for model in found}
    assert {"anon_vma", "cow", "cow-poc"} <= set(by_name)
    anon_vma = by_name["anon_vma"]
    assert anon_vma["objects"] == {"vm_area_struct": 192, "anon_vma": 104, "anon_vma_chain": 64}
    for model in found:
        assert model["params"][0]["name"] == "kernel"
    done = cli("models")
    assert done.returncode == 0
    for name in by_name:
        assert f"{name}: " in done.stdout
