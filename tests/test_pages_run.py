"""The tutorial and the how-to pages: what they tell to type does what they show."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import run_page

from batchscore.config import ScoreConfig

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [DOCS / "tutorial.md", *sorted(DOCS.glob("howto/*.md"))]


@pytest.mark.timeout(300)  # a page is followed to its end, with what it waits for
@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_what_the_page_tells_to_type_prints_what_it_shows(page, tmp_path):
    """Every command, in order, in an empty folder, against servers that the page itself starts."""
    _, different = run_page.happened(page.read_text(), tmp_path)
    assert not different, "\n".join(different)


def test_every_block_of_toml_holds_keys_of_a_config_file():
    """What a page shows of a config file is accepted as one."""
    block_of_toml = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)
    blocks = [toml for page in PAGES for toml in block_of_toml.findall(page.read_text())]
    assert len(blocks) > 2
    for block in blocks:
        given = {"inputs": "x", "output": "o.csv", "url": "http://x", **tomllib.loads(block)}
        ScoreConfig.model_validate(given)


def test_a_page_that_shows_something_else_is_found_and_written(tmp_path):
    """The script fails on a wrong line and names it, and with --write mends it."""
    page = tmp_path / "page.md"
    page.write_text("Write `a.txt`:\n\n```text\nyes\n```\n\n```console\n$ cat a.txt\nno\n```\n")
    words = [sys.executable, ROOT / "scripts" / "run_page.py", page]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "$ cat a.txt\n--- the page shows\nno\n--- printed\nyes\n" in done.stderr
    assert subprocess.run([*words, "--write"], capture_output=True, check=False).returncode == 0
    assert page.read_text().endswith("$ cat a.txt\nyes\n```\n")
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("shown", "printed", "is_same"),
    [
        ("took 12 ms, 30 rows/s", "took 3.5 s, 9 rows/s", True),
        ("5 rows", "6 rows", False),
        ("port ...", "port 12", True),
        ("a\n...\nz", "a\nb\nc\nz", True),
        ("a\n...\nz", "a\nb\nc", False),
        ("a  b", "a b", True),
    ],
)
def test_measured_figures_alone_may_differ(shown, printed, is_same):
    """Durations and rates are not compared, all else is, but for what the page leaves open."""
    assert run_page.is_as_shown(shown, printed) is is_same


def test_figures_differ_only_where_the_page_says_so():
    """After that line no numbers are compared, but words are."""
    assert run_page.is_as_shown("5 rows", "6 rows", figures_differ=True)
    assert not run_page.is_as_shown("5 rows", "6 requests", figures_differ=True)
