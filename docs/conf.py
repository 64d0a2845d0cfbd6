"""How the site is built from the pages of this repository: ``make site``.

The source folder is the repository itself, so that a link between two pages is the same link on a
code host and on the site. Links to files that are no pages become downloads.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]

project = "batchscore"
version = release = __version__
root_doc = "docs/index"
include_patterns = ["docs/**.md", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md",
                    "benchmarks/README.md"]  # fmt: skip
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Blocks of a shell session, of a file of rows and the like are shown as they are.
highlight_language = "text"
smartquotes = False  # `--option` must stay what can be typed
# JSON with `...` in it and the like: to colour what can be coloured is enough.
suppress_warnings = ["misc.highlighting_failure"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
nitpicky = True
# Types of other packages: to look them up would take a network.
nitpick_ignore_regex = [("py:.*", r"(?!batchscore\.).*")]

html_theme = "furo"
html_title = f"batchscore {__version__}"
html_copy_source = False
html_show_sphinx = False

_LINK = re.compile(r"\[([^\]]+)\]\(([^)#:\s]+)\)")
_HOME = """<!doctype html><title>batchscore</title>
<meta http-equiv="refresh" content="0; url=docs/index.html">
"""


def without_folder_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Take the link from links to folders: a code host lists these, a site has nothing to show."""
    here = (ROOT / page).parent

    def text_alone(link: re.Match[str]) -> str:
        return link[1] if (here / link[2]).is_dir() else link[0]

    source[0] = _LINK.sub(text_alone, source[0])


def with_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Make the lists of the first page the table of contents: a heading, and the links below it.

    A link to a folder stands for all pages in it.
    """
    if page != root_doc:
        return
    for section in source[0].split("\n## ")[1:]:
        caption, _, text = section.partition("\n")
        pages = [f"{title} <{page.removesuffix('.md')}>" for title, page in _LINK.findall(text)]
        if folders := re.findall(r"\]\((\w+/)\)", text):
            pages = [f"{folder}*" for folder in folders]
        tree = "\n".join([f":caption: {caption}", ":hidden:", ":glob:", ":titlesonly:", "", *pages])
        source[0] += f"\n```{{toctree}}\n{tree}\n```\n"


def write_home(app: Sphinx, error: Exception | None) -> None:
    """Lead whoever opens the site's root to its first page."""
    if error is None and app.builder.format == "html":
        (Path(app.outdir) / "index.html").write_text(_HOME, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Tell Sphinx of the functions above."""
    app.connect("source-read", with_contents)
    app.connect("source-read", without_folder_links)
    app.connect("build-finished", write_home)
