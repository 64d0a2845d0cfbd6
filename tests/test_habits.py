"""How this project is worked on, as far as it can be read off its files: see CONTRIBUTING.md."""

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
MAX_LINES = 400
_SKIPS = {"skip", "skipif", "importorskip", "xfail"}


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Each file of the tests, parsed."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def all_tests() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Each test, with the place where it stands."""
    for name, tree in trees():
        for node in ast.walk(tree):
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_function and node.name.startswith("test_"):
                yield f"{name}:{node.lineno} {node.name}", node


def is_one_sentence(text: str) -> bool:
    return text.endswith(".") and not re.search(r"[.!?]\s+[A-Z]", text)


def test_every_test_states_its_promise_in_one_sentence():
    """What a test promises stands in its docstring: one sentence, with its full stop."""
    found = [
        place for place, node in all_tests() if not is_one_sentence(ast.get_docstring(node) or "")
    ]
    assert not found, "\n".join(["give these a docstring of one sentence:", *found])


def test_the_name_of_a_test_is_more_than_a_catchword():
    """A name has at least three words, so that a line of the summary can be read as a promise."""
    found = [place for place, node in all_tests() if node.name.count("_") < 3]
    assert not found, "\n".join(["say in these names what holds:", *found])


def test_no_test_is_left_out_without_a_reason():
    """Whatever skips a test, or expects it to fail, says why."""
    found = []
    for name, tree in trees():
        called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in _SKIPS:
                if not re.fullmatch(r"pytest(\.mark)?\.\w+", ast.unparse(node)):
                    continue
                call = called.get(id(node))
                words = [word for word in call.keywords if word.arg == "reason"] if call else []
                if call and node.attr == "skip" and call.args:
                    continue
                if not words:
                    found.append(f"{name}:{node.lineno} {ast.unparse(call or node)}")
    assert not found, "\n".join(["tell the reason of these:", *found])


def test_no_module_is_longer_than_a_reader_bears():
    """A module of the package has at most 400 lines."""
    lengths = {
        str(path.relative_to(ROOT)): path.read_text().count("\n")
        for path in (ROOT / "batchscore").rglob("*.py")
    }
    found = {name: lines for name, lines in lengths.items() if lines > MAX_LINES}
    assert lengths
    assert not found, f"take these apart, {MAX_LINES} lines are enough: {found}"


# Commands. Read as text: whoever runs the tests may have neither make nor a git hook.


def targets() -> dict[str, str]:
    """The commands that ``make help`` lists, each with its lines."""
    text = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    found = re.findall(r"^([a-z-]+):.*## .*\n((?:\t.*\n)+)", text, re.MULTILINE)
    return dict(found)


def hooks() -> dict[str, str]:
    """The entries of the hooks, by their ids."""
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    return dict(
        re.findall(r"- id: (\S+)\n\s+name: .*\n\s+language: system\n\s+entry: (.*)\n", text)
    )


def missing(command: str) -> list[str]:
    """What a command names that is not there: a tool of the environment, a script, a folder."""
    found = []
    for word in command.split():
        if word.startswith(".venv/bin/"):
            name = word.removeprefix(".venv/bin/")
            is_there = (BIN / name).exists()
        elif re.fullmatch(r"[\w./-]+/[\w./-]+|\w+\.py", word):
            is_there = (ROOT / word).exists()
        else:
            continue
        if not is_there:
            found.append(word)
    return found


def test_every_command_of_make_names_what_is_there():
    """Tools, scripts and folders behind the commands exist."""
    assert {"setup", "quick", "test", "slow", "bench", "docs", "check"} <= targets().keys()
    found = {name: missing(lines) for name, lines in targets().items() if missing(lines)}
    assert not found


def test_every_hook_runs_a_command_that_is_there():
    """A hook is a tool of .venv, or git, with scripts and folders that exist."""
    assert len(hooks()) == (ROOT / ".pre-commit-config.yaml").read_text().count("language:")
    for name, entry in hooks().items():
        assert entry.startswith(".venv/bin/") or shutil.which(entry.split()[0]), name
        assert not missing(entry), name


def test_what_is_missing_is_found():
    """A tool, a script or a folder that is not there does not pass for one that is."""
    assert missing(".venv/bin/pytest -q scripts/none.py") == ["scripts/none.py"]
    assert missing(".venv/bin/no-such-tool tests/unit") == [".venv/bin/no-such-tool"]


@pytest.mark.parametrize("tool", ["ruff check", "ruff format", "mypy", "lint-imports"])
def test_hooks_and_check_look_at_what_must_pass(tool):
    """What .ci/run refuses is refused before a commit too, by hook and by hand."""
    assert tool in (ROOT / ".ci" / "run").read_text().replace('"$bin/', "").replace('"', "")
    assert any(tool in entry for entry in hooks().values())
    assert tool in targets()["check"]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_a_page_that_names_a_command_of_make_names_one_that_exists(page):
    """No page sends its reader to a command that is gone."""
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text()))
    assert named <= targets().keys()


def test_contributing_tells_every_command():
    """The one page for whoever changes something has all commands of ``make help``."""
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    assert targets().keys() - {"help"} <= named


def test_contributing_sends_nobody_to_a_place_that_is_gone():
    """Each module, folder and file that the page names is there."""
    words = re.findall(r"`((?:batchscore|tests|scripts|docs|benchmarks)/\S*)`",
                       (ROOT / "CONTRIBUTING.md").read_text())  # fmt: skip
    assert len(words) > 10
    assert [word for word in words if not any(ROOT.glob(word.rstrip("/")))] == []


def test_no_module_imports_in_a_circle():
    """No module needs itself through others, in functions and for types alone included."""
    graph = grimp.build_graph("batchscore", cache_dir=None)
    left = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    # Whoever imports nothing that is left is in no circle: taken away, until none is.
    while free := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"these import each other, or what does: {sorted(left)}"
