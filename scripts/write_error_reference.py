"""Write docs/errors.md: every error that ends a command, and every message it may come with.

    python scripts/write_docs.py errors.md

Classes, exit codes and occasions are those of ``batchscore.errors``; the messages are read from the
places that raise them, where ``{...}`` stands for what is only known then.
"""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[1] / "batchscore"
HEAD = """# Errors

Every error is told in one or two lines on standard error: what happened, to which file, column,
row or address, and what to do next. `--debug` adds a traceback. In Python they are the exceptions
of this page; `except batchscore.BatchscoreError` catches all of them, `error.exit_code` is what the
command would exit with. What becomes of a row alone stands in `prediction_error`
([failures.md](failures.md)).

This page is made from the code (`make docs`); do not edit it.

| error | exit code | raised when | what to do | for example |
|---|---|---|---|---|
"""
LIST = """
## All messages

`{...}` stands for what is only known then.
"""

# What the user does, and one message in full: a test compares it with those that are raised.
ADVICE = {
    "UsageError": (
        "mend the option, the config file or the argument that the message names; nothing was sent",
        "--report: there is no folder 'runs'; make it, or name another",
    ),
    "InputError": (
        "mend the input, or name the right one; `batchscore check` tells all that is wrong with it",
        "rows.csv: no such file or folder; is the path right, from this folder?",
    ),
    "StoppedError": (
        "read what the server or the extension says; the same command again would end the same way",
        "the deployment refused 20 rows one by one and scored none; it says: http_422: no unit",
    ),
    "RefusedError": (
        "look at the token, at the address, and whether the deployment is enabled",
        (
            "https://h/deployment/d/forward redirects without end; "
            "give --url the address that it should lead to"
        ),
    ),
    "MetadataError": (
        "look at the address: `batchscore inspect --url URL` shows what stands there",
        (
            "the specification names no inputs or no outputs; "
            "is --url that of a deployment, .../forward?"
        ),
    ),
    "ModelChangedError": (
        "score again, with `--overwrite`: one file must not mix the predictions of two models",
        (
            "https://h/d/forward has another specification than when the job began: the model "
            "was changed; its predictions must not be mixed with the first one's"
        ),
    ),
    "TooManyFailuresError": (
        "mend the rows, or allow more and go on with `--resume`",
        (
            "12 rows failed (12 http_422), more than --max-failed-rows allows (1%); "
            "mend the rows, or go on with a higher one and --resume"
        ),
    ),
    "TemporaryError": (
        "the same command with `--resume`, now or later",
        "",
    ),
    "UnreachableError": (
        "start the deployment, mend the address or the network",
        "cannot reach h:8080 (Connection refused): is the deployment running, and is --url right?",
    ),
    "OutageError": (
        "once the deployment is back, the same command with `--resume`",
        "h:8080 is away for 300 s: http_503: overloaded; a longer --max-outage would wait on",
    ),
    "OutputError": (
        "make room, or mend the folder; then the same command with `--resume`",
        (
            "cannot write '/data/out.arrow': No space left on device; "
            "free some and run the same command with --resume"
        ),
    ),
    "ShortageError": (
        "free some, or raise the limit; then the same command with `--resume`",
        "",
    ),
    "StoreError": (
        "look at the store and the network; then the same command with `--resume`",
        (
            "s3://b/rows.parquet: the store cannot be reached or fails: timed out; "
            "the same command with --resume goes on"
        ),
    ),
    "WorkerLostError": (
        "give it more memory, or fewer processes or workers",
        "",
    ),
    "EncodeError": (
        "mend the cell: that row alone fails, unsent",
        "'a.png' does not exist in '/data/pictures'",
    ),
    "PredictionError": (
        "look at `error.failures`: why, by the row's position",
        "",
    ),
    "RowsRefusedError": ("nothing: the batch is halved until the bad rows stand alone", ""),
    "DeploymentAwayError": ("nothing: it is waited for, up to `--max-outage`", ""),
    "AttemptError": ("nothing: it becomes another try, or the failure of rows", ""),
    "HTTPStatusError": ("see what the status does ([failures.md](failures.md))", ""),
    "ConnectionFailedError": ("nothing: tried again", "no connection within 10 s"),
    "AttemptTimeoutError": (
        "raise `--timeout`, or lower `--batch-size`, if it comes often",
        "no whole answer within 60 s",
    ),
    "DecodeError": (
        "tried again, then the row's failure: look at `--protocol` and at the server",
        "the answer has 3 rows, 4 were sent",
    ),
}


def reference() -> str:
    """The whole page."""
    found = messages()
    lines = []
    for name, kind in classes().items():
        if name not in ADVICE:
            continue
        advice, example = ADVICE[name]
        code = kind.exit_code if may_end_a_command(kind) else "none"
        when = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
        when = when.removeprefix("Raised when ").rstrip(".").replace("``", "`")
        shown = f"`{_cell(example)}`" if example else ""
        lines.append(f"| `{name}` | {code} | {_cell(when)} | {_cell(advice)} | {shown} |")
    page = HEAD + "\n".join(lines) + "\n" + LIST
    for name in classes():
        if name in found:
            page += f"\n### {name}\n\n"
            page += "".join(f"- `{' '.join(text.split())}`\n" for _, text in found[name])
    return page


def classes() -> dict[str, type[errors.BatchscoreError]]:
    """The exceptions of the package by name, in the order of the tree."""
    kinds = [item for item in vars(errors).values() if inspect.isclass(item)]
    return {kind.__name__: kind for kind in kinds if issubclass(kind, errors.BatchscoreError)}


def may_end_a_command(kind: type[errors.BatchscoreError]) -> bool:
    """Whether it reaches the user as itself: others become tries, waiting or failed rows."""
    inner = (
        errors.AttemptError, errors.EncodeError, errors.RowsRefusedError,
        errors.DeploymentAwayError, errors.PredictionError,
    )  # fmt: skip
    return not issubclass(kind, inner)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


@cache
def messages() -> dict[str, list[tuple[str, str]]]:
    """By the class of the error: each module that raises it, with the message as a template."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for name, message in of_module(ast.parse(path.read_text("utf-8"))):
            if (module, message) not in found.setdefault(name, []):
                found[name].append((module, message))
    return found


def of_module(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What is made of our errors in a module, each with its message."""
    names = {name for name, item in vars(errors).items() if inspect.isclass(item)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name(name), [first, *_]) if name in names and template(first):
                yield name, template(first)


def template(node: ast.expr) -> str:
    """A text with ``{...}`` for what is put in; nothing where it all is."""
    match node:
        case ast.Constant(str() as text):
            return text
        case ast.JoinedStr():
            return "".join(map(template, node.values))
        case ast.FormattedValue():
            name = " ".join(re.findall(r"[A-Za-z_]+", ast.unparse(node.value)))
            return f"{{{name}}}"
        case ast.BinOp(ast.expr() as left, ast.Add(), ast.expr() as right):
            return template(left) + template(right)
        case ast.IfExp():
            return template(node.body) or template(node.orelse)
    return ""
