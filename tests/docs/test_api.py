# SPDX-License-Identifier: GPL-2.0-only
"""docs/api.md has every public name; docs/index.md leads to every page; the notebook keeps nothing
that could go stale."""

from __future__ import annotations

import json
import re
from pathlib import Path

import rmapreplay as rr

DOCS = Path(__file__).parents[2] / "docs"


def test_every_public_name():
    text = (DOCS / "api.md").read_text()
    told = re.findall(r"^\.\. auto\w+:: rmapreplay\.(\w+)$", text, re.MULTILINE)
    assert sorted(told) == sorted(name for name in rr.__all__ if not name.startswith("_"))


def test_what_is_told_has_a_docstring():
    for name in rr.__all__:
        assert name == "__version__" or getattr(rr, name).__doc__, name


def test_every_page_has_its_link():
    text = (DOCS / "index.md").read_text()
    pages = {path.name for path in DOCS.glob("*.md")} | {"notebook.ipynb"}
    assert set(re.findall(r"\]\(([\w.-]+)\)", text)) == pages - {"index.md"}
    in_menu = re.findall(r"^.* <([\w-]+)>$", text, re.MULTILINE)
    assert sorted(in_menu) == sorted(page.split(".")[0] for page in pages - {"index.md"})


def test_links_between_pages():
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_readme_leads_to_every_page():
    text = (DOCS.parent / "README.md").read_text()
    for page in [*DOCS.glob("*.md"), DOCS / "notebook.ipynb"]:
        assert f"](docs/{page.name})" in text, page.name


def test_the_notebook_is_kept_without_outputs():
    notebook = json.loads((DOCS / "notebook.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
