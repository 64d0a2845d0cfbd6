"""Errors as help: what docs/errors.md tells, and that each message says what to do next."""

import re

import pytest
import write_error_reference as reference

from batchscore import errors

# What becomes of rows and tries is told to nobody but them.
OF_ROWS = (errors.AttemptError, errors.EncodeError, errors.PredictionError)
# Advice: a word to do it with, an option to give, a question, or text that another place puts in.
ADVICE = re.compile(
    r";|\?|\{[^}]*\b(advice|hint|remedy|more|differences|CREDENTIAL_ADVICE|nearest)\b|pip install"
    r"|\b(add|again|choose|give|lower|make|must|name|raise|rename|say|see|takes|use|write)\b"
)
# Their text is another error's, which has the advice, or is the advice.
PASSED_ON = {
    "--engine {config engine}: this engine is not here yet",
    "--engine spark: {self _why_not error}",
    "--master: Spark does not start with {master}: {reason lstrip}",
    "{shown}: an address is of the form {typed}://BUCKET/KEY",
    "{config place}: cannot read {str path}: {reason}",
    "{option}: {first msg removeprefix Value error}",
    "{where}: {error}",
    "{self _endpoint shown}: {text}",
    "--metrics-port: {_why self _address error}",
    "--type {column}={text}: {error}",
    "importing {name} failed: {error}",
    (
        "{self _options endpoint host_and_port} has a certificate that is not trusted: "
        "{_certificate_reason error certificate_error}"
    ),
    "{name}: {why}",
    "--output: {uri}: {reason}",
    "--output: {uri}: {_said error}",
    "{uri}: {uri scheme}:// cannot be read: {reason}",
    "progress: {progress} is not one of auto, bar, plain, none",
    "--output-format {given} is not one of {choice}",
    "--store-endpoint, --store-region or AWS_PROFILE: {error}",
    (
        "{connection endpoint shown} does not answer its first request well, so there is "
        "nothing to measure: {error code}: {error}"
    ),
    "{self _where}: batches() gave a {type batch __name__}, no pyarrow.RecordBatch or RowBatch",
}


def told() -> list[tuple[str, str, str]]:
    """The class, the module and the text of every message that may end a command."""
    kinds = reference.classes()
    return [
        (name, module, text)
        for name, found in reference.messages().items()
        if not issubclass(kinds[name], OF_ROWS)
        for module, text in found
    ]


def test_every_message_says_what_to_do_next():
    """Whatever ends a command names an option or an action, in its own words or another error's."""
    assert len(told()) > 250
    found = [
        f"{module} {name}: {text}"
        for name, module, text in told()
        if not ADVICE.search(text) and text not in PASSED_ON and module.split(".")[1] != "engines"
    ]
    assert not found, "\n".join(["say what to do next (; ...):", *found])


def test_what_is_passed_on_is_still_there():
    """The list of those that pass on another text names none that is gone."""
    assert {text for _, _, text in told()} >= PASSED_ON


def test_no_message_ends_in_a_full_stop_or_begins_with_a_capital():
    """A message stands behind "error: ", and often before more."""
    found = [text for _, _, text in told() if text.endswith(".") and not text.endswith("...")]
    names = r"AWS|Arrow|CSV|Feather|Java|JSON|ONNX|Parquet|Python|Ray|Spark"
    found += [text for _, _, text in told() if re.match(rf"(?!{names})[A-Z]", text)]
    assert not found


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    """errors.py draws each class below its base, with its exit code."""
    drawn = re.findall(r"(\w+Error)\b(?: +(\d+))?", errors.__doc__.partition("``EncodeError``")[0])
    codes = {name: int(code) for name, code in drawn if code}
    for name, kind in reference.classes().items():
        if name in codes:
            assert kind.exit_code == codes[name], name
    assert {name for name, _ in drawn} | {"EncodeError", "PredictionError"} >= {
        name for name in reference.classes() if name != "StoreError"
    }


@pytest.mark.parametrize(
    "name", [name for name, (_, example) in reference.ADVICE.items() if example]
)
def test_an_example_is_a_message_that_is_raised(name):
    """Each example of the page is one of the messages of its class, with the gaps filled in."""
    _, example = reference.ADVICE[name]
    patterns = [
        ".+".join(re.escape(part) for part in re.split(r"\{[^}]*\}", text))
        for _, text in reference.messages()[name]
    ]
    assert any(re.fullmatch(pattern.replace("'.+'", ".+"), example) for pattern in patterns)


def test_every_error_has_its_advice():
    """The page tells of each class what to do, and when it is raised."""
    assert reference.ADVICE.keys() == reference.classes().keys() - {"BatchscoreError"}
    for name, kind in reference.classes().items():
        if name != "BatchscoreError":
            assert kind.__doc__.startswith("Raised when "), name
