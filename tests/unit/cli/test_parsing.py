"""Words on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchscore.cli import app, commands

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchscore.cli.options import Command


class Seen(Exception):
    """What a command was given, before any other source."""

    def __init__(self, given: Mapping[str, object]) -> None:
        super().__init__()
        self.given = given


def given(monkeypatch: pytest.MonkeyPatch, *words: str) -> Mapping[str, object]:
    """The options that these words give explicitly."""
    seen: list[Mapping[str, object]] = []

    def remember(_command: Command, explicit: Mapping[str, object]) -> int:
        seen.append(explicit)
        return 0

    monkeypatch.setattr(commands, "execute", remember)
    assert app.run(list(words)) == 0
    return seen[0]


def test_only_what_was_given_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """No default gets in the way of the file and the environment."""
    assert given(monkeypatch, "score", "a.csv", "b.csv") == {"inputs": ["a.csv", "b.csv"]}
    assert given(monkeypatch, "demo") == {}
    assert given(monkeypatch, "demo", "here") == {"directory": "here"}


def test_values_stay_as_they_were_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line makes no values of the words; repeated options add up."""
    words = "score a -o o.csv --batch-size 08 --map A=B --map C=D --null NA --null=-x --overwrite"
    assert given(monkeypatch, *words.split()) == {
        "inputs": ["a"],
        "output": "o.csv",
        "batch_size": "08",
        "map": ["A=B", "C=D"],
        "null": ["NA", "-x"],
        "overwrite": True,
    }


def test_a_lone_hyphen_is_a_stream_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """``-`` is standard input or output, or a text, and never an option."""
    words = "score - -o - --null - --no-overwrite -q --no-color"
    assert given(monkeypatch, *words.split()) == {
        "inputs": ["-"],
        "output": "-",
        "null": ["-"],
        "overwrite": False,
        "quiet": True,
        "color": False,
    }


def test_what_follows_two_hyphens_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose name begins with - can be given after --."""
    assert given(monkeypatch, "score", "-o", "o", "--", "--token", "-q")["inputs"] == [
        "--token",
        "-q",
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("scor a", "unknown command 'scor'; did you mean score?"),
        (
            "xyz",
            "unknown command 'xyz'; there are score, check, rescore, inspect, bench, serve, demo",
        ),
        ("score a --outpt o", "unknown option --outpt; did you mean --output?"),
        ("score a --no-quite", "unknown option --no-quite; did you mean --no-quiet?"),
        ("score a --hedder=s3cret", "unknown option --hedder; did you mean --header?"),
        ("score a -o", "-o needs a value"),
        ("score a -o --overwrite", "-o needs a value"),
        ("score a -o b -o c", "-o is given twice"),
        ("score a --limit 1 --limit 2", "--limit is given twice"),
        ("score a --probs all", "--probs: 'all' is not one of struct, list, none"),
        ("score a --progress -", "--progress: '-' is not one of auto, bar, plain, none"),
        ("score a --overwrite=x", "--overwrite is a switch"),
        ("inspect there", "unexpected argument 'there'"),
        ("demo a b", "unexpected argument 'b'"),
        ("score a --token s3cret", "--token: a token is never given as an option"),
        ("score a --token=s3cret", "token_file, token_command or the variable BATCHSCORE_TOKEN"),
        ("inspect --token s3cret", "--token: a token is never given as an option"),
    ],
)
def test_wrong_words_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], words: str, expected: str
) -> None:
    """Each mistake is a usage error that names the word and the nearest right one."""
    assert app.run(words.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert expected in told.err
    assert told.err.count("\n") == 1
    assert "s3cret" not in told.err
