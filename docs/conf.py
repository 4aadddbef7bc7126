"""Sphinx: how the pages and the docstrings become the site (`make docs`).

The pages are CommonMark, so that GitHub shows the same files. CONTRIBUTING.md says why Sphinx.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

import fastpath

sys.path.insert(0, str(Path(__file__).resolve().parent))

project = "e1000emu"
html_title = "e1000emu"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "stubs"]
exclude_patterns = ["_static"]
language = "en"

# Headings are link targets by the same rule as on GitHub: embed.md#what-an-access-costs.
myst_heading_anchors = 4

# The order of the pages, in groups as the sidebar shows them. Sphinx warns of a page that is in
# none, and a warning fails `make docs`.
NAV = {
    "": ["index", "architecture", "packets"],
    "Use": [
        "cli",
        "sockets",
        "programs",
        "administer",
        "differences",
        "devices",
        "names",
        "congestion",
        "xtp",
        "netfilter",
        "embed",
        "drivers",
        "tried",
        "misuse",
        "record",
        "beyond",
        "large-labs",
        "capi",
        "cstack",
        "unicorn",
        "passt",
    ],
    "Measure": ["measure", "benchmarks", "rates", "performance"],
    "Reference": [
        "registers",
        "82540EM",
        "82545EM",
        "82544GC",
        "82545EM-fiber",
        "82544EI-fiber",
        "eeprom",
        "hardware",
        "knobs",
        "rfcs",
        "cpython",
        "tests",
        "api/index",
    ],
}

autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# The compiled modules have their docstrings themselves; the stubs beside them add the types
# (stubs.py). So they are loaded here, before autodoc would take a stub in a module's place.
os.environ["SPHINX_AUTODOC_IGNORE_NATIVE_MODULE_TYPE_STUBS"] = "1"
for _name in fastpath.MODULES:
    importlib.import_module(f"fastpath.{_name}")


def _add_nav(app: Sphinx, page: str, source: list[str]) -> None:
    """Give the first page its tables of contents, which GitHub would show as code."""
    if page != app.config.root_doc:
        return
    for title, pages in NAV.items():
        caption = f":caption: {title}\n" if title else ""
        inside = "\n".join(name if name != page else "self" for name in pages)
        source[0] += f"\n```{{toctree}}\n:hidden:\n{caption}\n{inside}\n```\n"


def _keep_short_code(app: Sphinx, page: nodes.document) -> None:
    """Let no line end inside a short piece of code such as --capture."""
    for code in page.findall(nodes.literal):
        if len(code.astext()) <= 20:
            code["classes"].append("short")


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", _add_nav)
    app.connect("doctree-read", _keep_short_code)
