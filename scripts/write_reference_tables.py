"""docs/config-reference.md and docs/report-reference.md, from the code: ``make docs``."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from write_config_schema import schema

from batchscore.metrics import RunReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONFIG_HEAD = """# Config files

`--config FILE.toml` reads options from a file; no file is ever picked up by itself. What the file
says is overruled by `BATCHSCORE_<OPTION>` variables, these by the command line. One file may serve
several commands: each takes the keys that it knows. `--print-config` writes one
([install.md](install.md#config-files-in-an-editor)), [configs/](../configs/) has examples.

This page is made from the [JSON Schema](../configs/batchscore.schema.json) (`make docs`), which is
made from the options; do not edit it.
"""
REPORT_HEAD = """# The report

`--report FILE.json` of `score` and `rescore`, and `RunReport` in Python, hold these fields. Fields
may be added; what is there keeps its name and meaning as long as `schema_version` is 1. As a page:
[reports.md](reports.md).

This page is made from the code (`make docs`); do not edit it.
"""


def config_reference() -> str:
    """The page of all keys of a config file."""
    keys: Mapping[str, Any] = json.loads(schema())["properties"]
    tables = {name: key for name, key in keys.items() if "properties" in key}
    parts = [CONFIG_HEAD, "## Keys\n", _keys(keys, without=tables)]
    for name, table in tables.items():
        told = " ".join(table["description"].split("\n\n")[0].split())
        parts += [f"\n## `[{name}]`\n", f"{told}\n", _keys(table["properties"])]
    return "\n".join(parts)


def _keys(keys: Mapping[str, Any], without: Iterable[str] = ()) -> str:
    rows = ["| key | what | value | default |", "|---|---|---|---|"]
    for name, key in keys.items():
        if name not in without:
            default = f"`{json.dumps(key['default'])}`" if "default" in key else ""
            told = _cell(key.get("description", "").replace("\n\n", "; "))
            rows.append(f"| `{name}` | {told} | {_cell(_kind(key))} | {default} |")
    return "\n".join(rows) + "\n"


def _kind(key: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "anyOf" in key:
        return " or ".join(dict.fromkeys(_kind(kind) for kind in key["anyOf"]))
    if "const" in key:
        return f"`{json.dumps(key['const'])}`"
    if "enum" in key:
        return ", ".join(f"`{json.dumps(value)}`" for value in key["enum"])
    names = {"boolean": "true or false", "integer": "whole number", "object": "table"}
    if key.get("type") == "array":
        return f"list of: {_kind(key['items'])}"
    return names.get(key.get("type", ""), key.get("type", "any"))


def report_reference() -> str:
    """The page of all fields of a report."""
    told = _attributes(RunReport.__doc__ or "")
    rows = ["| field | type | what |", "|---|---|---|", "| `schema_version` | int | 1 |"]
    rows += [
        f"| `{field.name}` | {_cell(str(field.type))} | {_cell(told[field.name])} |"
        for field in fields(RunReport)
    ]
    return f"{REPORT_HEAD}\n" + "\n".join(rows) + "\n"


def _attributes(docstring: str) -> dict[str, str]:
    """What the ``Attributes`` of a docstring tell; a line may tell of several."""
    section = docstring.partition("Attributes:\n")[2]
    found = {}
    attribute = re.compile(r"^ {8}(\w[\w, ]*): ((?:.*\n)(?: {12}.*\n)*)", re.MULTILINE)
    for names, text in attribute.findall(section):
        for name in names.split(", "):
            found[name] = " ".join(text.split()).replace("``", "`")
    return found


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
