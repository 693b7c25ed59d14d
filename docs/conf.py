# SPDX-License-Identifier: GPL-2.0-only
"""How Sphinx makes a site of these pages: `make docs`.

The pages are plain Markdown, to be read where they lie as well. Nothing is fetched from elsewhere,
neither when the site is made nor when it is read.
"""

from __future__ import annotations

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import rmapreplay

project = "rmapreplay"
version = release = rmapreplay.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

default_role = "code"  # as docstrings mean it
smartquotes = False  # "--verify" has two dashes
nitpicky = True
# Types of other projects, aliases that only type checkers see, and what scenarios are made of
# inside have no place here.
nitpick_ignore_regex = [
    ("py:.*", r"(?!rmapreplay\.).*"),
    ("py:class", r"rmapreplay\.traces\.scenarios\..*\.(Step|Expectation|Result)"),
]

myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # or attributes of dataclasses would be told twice
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 110

html_theme = "furo"
html_title = "rmapreplay"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]


def setup(app: Sphinx) -> None:
    """Languages that Pygments does not know, and output, in which it sees prompts and strings."""
    for language in ("console", "mermaid", "scn"):
        app.add_lexer(language, TextLexer)
