"""The names that users may rely on."""

import inspect
import subprocess
import sys

import batchscore
from batchscore import extending

NAMES = {
    "AsyncDeployment", "BatchscoreError", "CheckReport", "Deployment", "FeatureSpec", "InputError",
    "PredictionError", "RunReport", "StoppedError", "TemporaryError", "UsageError",
    "check", "check_async", "rescore", "rescore_async", "score", "score_async", "score_table",
}  # fmt: skip

EXTENDING = {
    "BaseProtocol", "FeatureSpec", "FormatReader", "FormatWriter", "ModelSignature",
    "PlainProtocol", "ReadOptions", "Request", "Response", "RowBatch", "RowFailure",
    "Treatment", "parse_json", "text_field",
}  # fmt: skip


def test_the_public_names_are_these_and_each_can_be_imported():
    """Nothing public appears or disappears by accident."""
    assert set(batchscore.__all__) == NAMES
    assert all(getattr(batchscore, name).__doc__ for name in NAMES)
    assert set(dir(batchscore)) >= NAMES


def test_what_an_extension_may_rely_on_is_this():
    """Other packages import from batchscore.extending alone, and each name there says its use."""
    assert set(extending.__all__) == EXTENDING
    assert all(getattr(extending, name).__doc__ for name in EXTENDING)


def test_a_name_that_is_not_there_is_an_attribute_error():
    """The lazy import does not invent names."""
    assert not hasattr(batchscore, "no_such_name")


def test_importing_the_package_imports_nothing_heavy():
    """`import batchscore` stays quick: no PyArrow, no aiohttp."""
    code = (
        "import batchscore, sys; print(sorted({'pyarrow', 'aiohttp', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_options_are_keyword_only_and_named_as_on_the_command_line():
    """score(inputs, output, *, url, token, **options)."""
    parameters = inspect.signature(batchscore.score).parameters
    assert list(parameters)[:2] == ["inputs", "output"]
    assert parameters["url"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["options"].kind is inspect.Parameter.VAR_KEYWORD
