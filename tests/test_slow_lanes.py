"""The runner of the slow lanes, with lanes that are quick."""

import shlex
import sys
from pathlib import Path

import pytest
from slow_lanes import LANES, ROOT, Lane, run_all


def test_every_lane_runs_whatever_another_came_to_and_the_end_tells_all(capsys):
    """A lane that fails makes the exit code 1 and keeps none from running; figures come last."""
    passes = Lane("passes", ("-c", "print('begins'); print('7 rows')"))
    fails = Lane("fails", ("-c", "raise SystemExit('no room')"))
    reads = Lane("reads", ("-c", "import os; print(os.environ['SEED'])"), {"SEED": "4711"})
    assert run_all({"first": passes, "second": fails, "third": reads}) == 1
    told = capsys.readouterr().out
    seen, end = told.split("== what the slow lanes came to")
    assert "begins\n7 rows" in seen
    assert "begins" not in end
    summary = [" ".join(part.split()) for part in end.strip().split("\n\n")]
    for part, (name, how, figures) in zip(
        summary,
        [
            ("first", "passed", "7 rows"),
            ("second", "FAILED with exit code 1", "no room"),
            ("third", "passed", "4711"),
        ],
        strict=True,
    ):
        assert part.startswith(f"{name}: {how} after ")
        assert part.endswith(figures)


def test_lanes_that_all_pass_are_a_good_end(capsys):
    """Nothing but lanes that passed is exit code 0."""
    assert run_all({"only": Lane("passes", ("-c", "print('done')"))}) == 0
    assert "only: passed" in capsys.readouterr().out


@pytest.mark.parametrize("name", LANES)
def test_a_lane_names_what_is_there(name):
    """The script, module or tests that a lane runs exist."""
    words = list(LANES[name].words)
    files = [word for word in words if word.endswith(".py")]
    if words[0] == "-m" and words[1] != "pytest":
        files.append(f"{LANES[name].variables['PYTHONPATH']}/{words[1]}/__main__.py")
    is_whole_suite = words[:2] == ["-m", "pytest"]
    assert files or is_whole_suite, shlex.join(words)
    assert all((ROOT / file).is_file() for file in files), files


def test_the_lanes_are_listed_by_the_help(capsys, monkeypatch):
    """--help names every lane with what it shows."""
    import slow_lanes

    monkeypatch.setattr(sys, "argv", [str(Path(slow_lanes.__file__)), "--help"])
    with pytest.raises(SystemExit, match="0"):
        slow_lanes.main()
    told = capsys.readouterr().out
    for name, lane in LANES.items():
        assert name in told
        assert lane.about in told
