"""The blocks of docs/pipelines.md, as words to run."""

from __future__ import annotations

import re

from pipelines.running import ROOT

PAGE = ROOT / "docs" / "pipelines.md"
ADDRESS = "https://HOST/deployment/ID/forward"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Each line that is typed, in the order of the page."""
    return [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


def with_address(text: str, url: str) -> str:
    """The text with a real address in the place of the one that stands for it."""
    return re.sub(r"\bURL\b(?!=)", url, text.replace(ADDRESS, url))
