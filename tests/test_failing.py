"""What a test that fails tells, seen on tests that are broken on purpose."""

import subprocess
import sys
from pathlib import Path

import pytest
from failing import ROOT, about

TESTS = Path(__file__).parent
_FILES = sorted(str(path.relative_to(ROOT)) for path in TESTS.rglob("test_*.py"))


def failed(folder: Path, source: str, *options: str) -> str:
    """What pytest prints about a file of tests, run with the settings of this project."""
    (folder / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (folder / "test_broken.py").write_text(source)
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            "-o", f"pythonpath={TESTS}", "-c", ROOT / "pyproject.toml", "--rootdir", folder,
            *options, "test_broken.py",
        ],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    return done.stdout


def test_a_failing_test_tells_its_promise_where_to_look_and_how_to_run_it_alone(tmp_path):
    """Below the traceback stand the docstring, a module or page, and a command to copy."""
    told = failed(
        tmp_path,
        'import pytest\n\n@pytest.mark.parametrize("word", ["with space"])\n'
        'def test_wrong(word):\n    """A promise\n    of two lines."""\n'
        '    assert word == "other"\n',
    )
    _, _, section = told.partition("what to look at")
    assert "promise: A promise of two lines." in section
    assert "look at: batchscore" in section
    assert "alone:   .venv/bin/pytest 'test_broken.py::test_wrong[with space]'" in section


def test_a_failing_test_shows_the_processes_it_ran(tmp_path):
    """Command, exit code and standard error stand there, where the test asks only for the code."""
    told = failed(
        tmp_path,
        "import subprocess, sys\n\ndef test_wrong():\n"
        "    code = 'import sys; sys.exit(chr(10).join(map(str, range(40))))'\n"
        "    done = subprocess.run([sys.executable, '-c', code], stderr=subprocess.PIPE)\n"
        "    assert done.returncode == 0\n",
    )
    _, _, section = told.partition("what to look at")
    assert "$ " in section
    assert "-c 'import sys; sys.exit" in section
    assert f"  in {tmp_path}: exit code 1" in section
    assert "  ... 25 lines of standard error before\n  25\n" in section
    assert "\n  39\n" in section


def test_a_process_that_was_left_running_is_told_as_such(tmp_path):
    """Where nobody waited, no exit code is made up."""
    told = failed(
        tmp_path,
        "import subprocess\n\ndef test_wrong():\n"
        "    with subprocess.Popen('exec cat', shell=True, stdin=subprocess.PIPE):\n"
        "        raise RuntimeError\n",
    )
    assert "$ exec cat" in told
    told = failed(
        tmp_path,
        "import subprocess\n\nPROCESSES = []\n\ndef test_wrong():\n"
        "    PROCESSES.append(subprocess.Popen(['sleep', '0']))\n"
        "    raise RuntimeError\n\n"
        "def test_waits():\n    PROCESSES[0].wait()\n",
    )
    assert "nobody waited for its end" in told


def test_what_fails_before_the_test_itself_is_told_too(tmp_path):
    """An error of a fixture has the same section, also with several workers."""
    source = (
        "import pytest\n\n@pytest.fixture\ndef broken():\n    raise RuntimeError\n\n"
        'def test_wrong(broken):\n    """A promise."""\n'
    )
    assert "promise: A promise." in failed(tmp_path, source)
    assert "promise: A promise." in failed(tmp_path, source, "-n", "1")


def test_a_test_that_passes_says_nothing(tmp_path):
    """The section belongs to failures alone."""
    told = failed(tmp_path, "def test_right():\n    pass\n\ndef test_wrong():\n    assert False\n")
    assert told.count("what to look at") == 1


@pytest.mark.parametrize("file", _FILES)
def test_every_file_of_tests_names_what_it_is_about(file):
    """What a failing test sends its reader to is there."""
    named = about(file)
    assert named != ["batchscore"], f"name a page or module for {file} in tests/failing.py"
    assert all((ROOT / path).exists() for path in named), named
