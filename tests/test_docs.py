"""What the documentation says is true."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import write_command_reference

import batchscore
from batchscore.bench.options import BenchConfig
from batchscore.checking.options import CheckConfig
from batchscore.config import EndpointConfig, RescoreConfig, ScoreConfig

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_command_reference_is_what_the_commands_say():
    """docs/commands.md is written by its script, and up to date."""
    assert (ROOT / "docs" / "commands.md").read_text() == write_command_reference.reference()


def write_docs(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "write_docs.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)  # Most of a minute of processor time, which a busy computer stretches.
def test_what_is_generated_is_up_to_date():
    """Every page, table and plot in docs/ that a script makes is what it would make now."""
    done = write_docs("--check")
    assert done.returncode == 0, done.stderr


def test_a_page_that_is_out_of_date_is_named_and_written_anew(tmp_path):
    """The check fails on a changed word and says which, and writing gives the page back."""
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    pages = ("benchmarks.md", "benchmarks.svg")
    text = (docs / "benchmarks.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| wrk, ready body | 2"))
    (docs / "benchmarks.md").write_text(text.replace(line, "| wrk, ready body | 1 |"))
    done = write_docs("--check", "--docs", docs, *pages)
    assert done.returncode == 1
    assert "benchmarks.md is out of date" in done.stderr
    assert "benchmarks.svg" not in done.stderr
    assert f"-| wrk, ready body | 1 |\n+{line}\n" in done.stderr
    assert "make docs" in done.stderr
    assert write_docs("--docs", docs, *pages).returncode == 0
    assert (docs / "benchmarks.md").read_text() == text
    assert write_docs("--check", "--docs", docs, *pages).returncode == 0


def test_every_option_is_in_the_reference():
    """Each field of the configuration has its option there."""
    text = (ROOT / "docs" / "commands.md").read_text()
    for name in {
        info.alias or name
        for model in (EndpointConfig, ScoreConfig, CheckConfig, RescoreConfig, BenchConfig)
        for name, info in model.model_fields.items()
    }:
        # An argument, Python's alone, tables of TOML.
        if name not in {"inputs", "token", "retry", "instances"}:
            assert f"--{name.replace('_', '-')} " in text, name


@pytest.mark.parametrize("name", ["README.md", *(p.name for p in ROOT.glob("docs/*.md"))])
def test_every_option_that_a_page_for_users_names_exists(name):
    """A page that names an option names one that some command has."""
    page = ROOT / name if name == "README.md" else ROOT / "docs" / name
    known = set(re.findall(r"--[a-z][a-z-]+", (ROOT / "docs" / "commands.md").read_text()))
    known |= {"--token"}  # of which errors.md tells that it is refused
    known |= {"--quiet", "--cov", "--seeds"}  # of pip, pytest and the simulation
    known |= {"--docs", "--realtime", "--global", "--h", "--log-file", "--rps"}  # tools
    known |= {"--retry", "--retry-connrefused", "--retry-delay"}  # of curl
    known |= {"--spec", "--from", "--rm", "--requeue", "--signal", "--strict"}  # install.md
    known |= {"--select", "--partition", "--config-json"}  # of Dagster
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text()))
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_to_a_file_leads_somewhere(page):
    """A relative link names a file or folder of the repository."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_python_block_uses_names_that_exist(page):
    """Python examples parse, and what they take from the package is there."""
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "batchscore":
                assert hasattr(batchscore, node.attr), node.attr


def test_the_readme_begins_with_the_two_commands():
    """One line each: the first runs the demo, the second the tests."""
    first, second = blocks(ROOT / "README.md", "sh")[:2]
    assert first.count("\n") == second.count("\n") == 1
    assert first.strip().endswith("batchscore demo")
    assert "pytest" in second


def test_the_readmes_python_example_runs(tmp_path):
    """The Python of the README, word for word, against a real deployment."""
    (block,) = blocks(ROOT / "README.md", "python")
    program = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import io, PIL.Image, pyarrow as pa, pyarrow.parquet as pq
from faultserver import FaultServer, Model
rows = {{"Type": ["animal"] * 3, "Sound": ["Miaow"] * 3, "Size": [0.1, 0.2, 0.3]}}
frame = pa.table(rows)
pq.write_table(frame, "rows.parquet")
PIL.Image.new("RGB", (4, 4)).save("6.png")
model = Model({{"Type": ("categorical", [1]), "Sound": ("text", [1]), "Size": ("numeric", [1])}},
              {{"y": ("numeric", [1])}}, lambda rows: [{{"y": row["Size"]}} for row in rows])
picture = Model({{"picture": ("image", [4, 4, 3])}}, {{"y": ("numeric", [1])}},
                lambda rows: [{{"y": 6.0}} for row in rows])
lines = {block!r}.splitlines()
cut = next(n for n, line in enumerate(lines) if "picture" in line)
with FaultServer(*model) as server:
    url, token = server.url, "t"
    exec("\\n".join(lines[:cut]))
    assert report.rows_scored == 3
    assert table["predicted_y"].to_pylist() == [0.1, 0.2, 0.3]
with FaultServer(*picture) as server, batchscore.Deployment(server.url) as deployment:
    exec(lines[cut].strip())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
