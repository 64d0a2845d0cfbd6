"""HTML from Python, where every text is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from batchscore.report_page.style import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MARK = "<!doctype html>\n<!-- batchscore report -->"
"""What each page begins with, so that one can be known from a file that must not be replaced."""


class Markup(str):
    """HTML; a ``str`` that is none is text, and gets escaped."""

    __slots__ = ()


def text(value: object) -> Markup:
    """A value as HTML; what is HTML already stays itself."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def joined(parts: Iterable[object]) -> Markup:
    """One HTML of several values."""
    return Markup("".join(map(text, parts)))


def element(name: str, *content: object, **attributes: object) -> Markup:
    """An element; ``class_`` is its class, ``_`` in a name is ``-``, None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")


def section(title: str, *content: object, id_: str) -> Markup:
    """A part of the page with its heading; none where it has no content."""
    body = joined(content)
    return element("section", element("h2", title), body, id=id_) if body else Markup("")


def table(
    head: Sequence[object], rows: Iterable[Sequence[object]], *, numbers: Iterable[int] = ()
) -> Markup:
    """A table that scrolls sideways on a small screen; none without rows.

    Args:
        head: what stands above the columns.
        rows: the cells.
        numbers: the columns that are set to the right.
    """
    right = set(numbers)

    def cells(name: str, values: Sequence[object]) -> Markup:
        return element(
            "tr",
            *(element(name, v, class_="n" if i in right else None) for i, v in enumerate(values)),
        )

    body = joined(cells("td", row) for row in rows)
    if not body:
        return body
    whole = element("table", element("thead", cells("th", head)), element("tbody", body))
    return element("div", whole, class_="scroll", tabindex=0)


def facts(values: Mapping[str, object]) -> Markup:
    """Names and what they are, in two columns; none without values."""
    items = joined(
        element("div", element("dt", name), element("dd", value)) for name, value in values.items()
    )
    return element("dl", items) if items else items


def tiles(values: Mapping[str, object]) -> Markup:
    """A few figures that are seen first."""
    return element(
        "div",
        *(
            element("div", element("b", value), element("span", name), class_="tile")
            for name, value in values.items()
        ),
        class_="tiles",
    )


def document(title: str, *content: object) -> str:
    """The whole page. It may load nothing: its policy forbids what it does not hold."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        MARK
        + f'\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{joined(content)}\n</main>\n"
        "</body>\n</html>\n"
    )
