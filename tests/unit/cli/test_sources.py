"""Options from the file, the environment and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchscore.cli.commands import known_options
from batchscore.cli.completion import COMMAND as COMPLETION
from batchscore.cli.inspect import COMMAND as INSPECT
from batchscore.cli.options import Command, GeneralOptions
from batchscore.cli.score import COMMAND as SCORE
from batchscore.cli.serve import COMMAND as SERVE
from batchscore.cli.sources import resolve
from batchscore.config import ScoreConfig
from batchscore.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = {"inputs": ["a.csv"], "output": "o.arrow", "url": "http://h/forward"}


def options_of(
    explicit: dict[str, object], environment: dict[str, str] | None = None
) -> tuple[ScoreConfig, GeneralOptions]:
    """The options of score, with what it cannot do without."""
    config, general = resolve(SCORE, NEEDED | explicit, known_options, environment or {})
    assert isinstance(config, ScoreConfig)
    return config, general


def refusal(
    explicit: dict[str, object],
    environment: dict[str, str] | None = None,
    command: Command = SCORE,
) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(UsageError) as caught:
        resolve(command, explicit, known_options, environment or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def config_file(folder: Path, text: str) -> str:
    """A config file with this text."""
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("in_file", "in_environment", "on_command_line", "expected"),
    [
        (None, None, None, 5),
        (6, None, None, 6),
        (6, "7", None, 7),
        (6, "7", "8", 8),
        (None, "7", "8", 8),
        (6, None, "8", 8),
    ],
)
def test_the_command_line_goes_before_the_environment_before_the_file(
    tmp_path: Path,
    in_file: int | None,
    in_environment: str | None,
    on_command_line: str | None,
    expected: int,
) -> None:
    """Defaults < file < environment < command line."""
    explicit: dict[str, object] = {}
    if in_file is not None:
        explicit["config"] = config_file(tmp_path, f"max-attempts = {in_file}")
    if on_command_line is not None:
        explicit["max_attempts"] = on_command_line
    environment = {} if in_environment is None else {"BATCHSCORE_MAX_ATTEMPTS": in_environment}
    assert options_of(explicit, environment)[0].max_attempts == expected


def test_every_source_understands_what_people_write(tmp_path: Path) -> None:
    """Units, lists, pairs, switches and tables mean the same wherever they come from."""
    path = config_file(
        tmp_path,
        'timeout = "2m"\nkeep = ["a", "b"]\nreport = ["r.json"]\noverwrite = true\n'
        '[map]\nSize = "size"\n[retry]\nstop = [501]\n',
    )
    from_file, _ = options_of({"config": path})
    from_environment, _ = options_of(
        {},
        {
            "BATCHSCORE_TIMEOUT": "2m",
            "BATCHSCORE_KEEP": "a,b",
            "BATCHSCORE_REPORT": "r.json",
            "BATCHSCORE_OVERWRITE": "true",
            "BATCHSCORE_MAP": "Size=size",
        },
    )
    on_command_line, _ = options_of(
        {
            "timeout": "2m",
            "keep": "a,b",
            "report": ["r.json"],
            "overwrite": True,
            "map": ["Size=size"],
        }
    )
    assert from_environment == on_command_line
    assert from_file == on_command_line.model_copy(update={"retry": from_file.retry})
    assert from_file.retry.stop == ("501",)
    assert (from_file.timeout, from_file.keep, from_file.map) == (120, ("a", "b"), {"Size": "size"})


def test_a_repeated_option_is_a_line_each_in_the_environment() -> None:
    """A variable holds the values of a repeated option one a line."""
    config, _ = options_of({}, {"BATCHSCORE_NULL": "NA\n-", "BATCHSCORE_MAP": "A=x, y\nB=z\n"})
    assert config.null == ("NA", "-")
    assert config.map == {"A": "x, y", "B": "z"}


def test_a_switch_of_the_file_is_taken_back_by_the_command_line(tmp_path: Path) -> None:
    """``--no-overwrite`` goes before ``overwrite = true``."""
    path = config_file(tmp_path, "overwrite = true\nquiet = true")
    config, general = options_of({"config": path, "overwrite": False})
    assert not config.overwrite
    assert general.quiet


def test_the_nearer_source_of_the_token_counts(tmp_path: Path) -> None:
    """A --token-command on the command line takes the place of a token_file in the file."""
    path = config_file(tmp_path, 'token_file = "t"')
    config, _ = options_of({"config": path, "token_command": "pass x"})
    assert (config.token_command, config.token_file) == ("pass x", None)


def test_one_file_and_one_environment_serve_several_commands(tmp_path: Path) -> None:
    """What belongs to another command is neither refused nor taken."""
    path = config_file(tmp_path, 'url = "http://h/forward"\nbatch-size = 7\n')
    endpoint, _ = resolve(
        INSPECT,
        {"config": path},
        known_options,
        {"BATCHSCORE_PORT": "x", "BATCHSCORE_MAP": "-"},
    )
    assert endpoint.model_dump()["url"] == "http://h/forward"


def test_a_variable_can_name_the_config_file(tmp_path: Path) -> None:
    """BATCHSCORE_CONFIG is --config; no file is picked up without either."""
    path = config_file(tmp_path, "max_attempts = 2")
    assert options_of({}, {"BATCHSCORE_CONFIG": path})[0].max_attempts == 2
    assert options_of({})[0].max_attempts == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bach_size = 1", "job.toml:bach_size: unknown key; did you mean batch_size?"),
        ("url = 3", "job.toml:url: the value is not a text"),
        ("batch-size = 1\nbatch_size = 2", "job.toml:batch_size: the key is there twice"),
        ('config = "x.toml"', "job.toml:config: unknown key"),
        ("retry = 5", "job.toml:retry: 5 is not a table"),
        ("[retry]\nstops = [500]", "job.toml:retry.stops: unknown key; did you mean stop?"),
        ("[retry]\nstop = [99]", "job.toml:retry.stop: '99' is no HTTP status"),
        ("[retry]\nstop = [500]\nretry = [500]", "job.toml:retry: status 500 stands in two lists"),
        ("batch_size = [1]", "job.toml:batch_size: [1] is not auto or a whole number"),
        ("limit = -1", "job.toml:limit: -1 is not at least 0"),
        ("a = ", "job.toml is no valid TOML"),
        ("map = 3", "job.toml:map: 3 is not a list of NAME=VALUE"),
        ('[job]\nurl = "x"', "job.toml:job: unknown key"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key(tmp_path: Path, text: str, expected: str) -> None:
    """Whatever is wrong in a config file is told with the file, the key and the nearest name."""
    path = config_file(tmp_path, text)
    without_url = {"inputs": ["a"], "output": "o", "config": path}
    assert expected in refusal(
        without_url, {"BATCHSCORE_URL": "http://h/"} if "url" not in text else {}
    )


def test_a_token_in_a_file_is_refused_without_showing_it(tmp_path: Path) -> None:
    """A token key is refused, with the places where a token may stand."""
    text = refusal(NEEDED | {"config": config_file(tmp_path, 'token = "s3cret"')})
    assert "token_file, token_command or the variable BATCHSCORE_TOKEN" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"BATCHSCORE_BACH_SIZE": "3"},
            "BATCHSCORE_BACH_SIZE; did you mean BATCHSCORE_BATCH_SIZE?",
        ),
        ({"BATCHSCORE_TOKN": "s3cret"}, "BATCHSCORE_TOKN; did you mean BATCHSCORE_TOKEN?"),
        ({"BATCHSCORE_RETRY": "x"}, "unknown variable BATCHSCORE_RETRY"),
        ({"BATCHSCORE_batch_size": "3"}, "unknown variable BATCHSCORE_batch_size"),
        ({"BATCHSCORE_BATCH_SIZE": "3.5"}, "BATCHSCORE_BATCH_SIZE: '3.5' is not auto or a whole"),
        ({"BATCHSCORE_QUIET": "maybe"}, "BATCHSCORE_QUIET: 'maybe' is not true or false"),
        ({"BATCHSCORE_HEADER": "Key s3cret"}, "BATCHSCORE_HEADER: a header is not of the form"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(
    environment: dict[str, str], expected: str
) -> None:
    """Whatever is wrong with a variable is told by its name, never a secret in it."""
    text = refusal(NEEDED, environment)
    assert expected in text
    assert "s3cret" not in text


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """One line names every wrong option with the place that it came from."""
    path = config_file(tmp_path, 'probs = "all"')
    text = refusal(
        NEEDED | {"config": path, "batch_size": "x", "delimiter": "ab"},
        {"BATCHSCORE_TIMEOUT": "3 parsecs", "BATCHSCORE_PROGRESS": "loud"},
    )
    for place in ("--batch-size: ", "--delimiter: ", "BATCHSCORE_TIMEOUT: ", f"{path}:probs: "):
        assert place in text
    assert "BATCHSCORE_PROGRESS: 'loud' is not auto, bar, plain, none" in text


def test_what_is_missing_is_named_with_the_places_for_it() -> None:
    """A required option that nobody gave is named in all its forms."""
    text = refusal({})
    assert "INPUT is missing" in text
    assert "--url is missing (or BATCHSCORE_URL, or url in a config file)" in text


def test_every_option_of_the_main_job_stands_in_a_group_of_its_help() -> None:
    """No option of score is left over in the help, and no group names one that is not there."""
    grouped = [name for names in SCORE.groups.values() for name in names]
    assert sorted(grouped) == sorted(set(SCORE.option_names) - set(GeneralOptions.model_fields))
    assert set(SCORE.metavars) <= set(grouped)


@pytest.mark.parametrize("command", [SCORE, INSPECT, SERVE, COMPLETION])
def test_every_option_has_a_help_line(command: Command) -> None:
    """An option's description is its line in the help, so each has one."""
    for name, info in {**command.model.model_fields, **GeneralOptions.model_fields}.items():
        assert info.exclude or info.description, name
