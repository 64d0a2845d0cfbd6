"""Write the JSON Schema of the config files: what editors complete and check them by.

    python scripts/write_docs.py ../configs/batchscore.schema.json

It is made from the models of the options, of all commands together, as one file may serve several.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticOmit

from batchscore.cli.options import GeneralOptions, default_text, settable, tables
from batchscore.cli.words import COMMANDS
from batchscore.extensions import Extensions

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

Json = dict[str, Any]
NOT_IN_FILES = ("config", "print_config")


def schema() -> str:
    """The whole schema."""
    by_key: dict[str, dict[str, Json]] = {}
    found: dict[str, Json] = {}
    for name in COMMANDS:
        model = import_module(f"batchscore.cli.{name}").COMMAND.model
        for options in (model, GeneralOptions):
            for key, value in properties(options).items():
                if key not in NOT_IN_FILES:
                    by_key.setdefault(key, {})[name] = value
        for key, table in tables(model).items():
            found[key] = {"description": (table.__doc__ or "").strip()} | of_keys(properties(table))
    keys = {key: joined(of_commands) for key, of_commands in by_key.items()} | found
    content = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "batchscore config",
        "description": "Options of the batchscore commands, as --config FILE.toml reads them",
        **of_keys(dict(sorted(keys.items()))),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def of_keys(keys: dict[str, Json]) -> Json:
    """An object with these keys and no other; words may also be joined by hyphens."""
    hyphened = {key.replace("_", "-"): key for key in keys if "_" in key}
    return {
        "type": "object",
        "properties": keys,
        "patternProperties": {f"^{name}$": keys[key] for name, key in hyphened.items()},
        "additionalProperties": False,
    }


class _OfOptions(GenerateJsonSchema):
    """Leaves out what Python alone can give, such as a callable."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:
        raise PydanticOmit


def properties(model: type[BaseModel]) -> dict[str, Json]:
    """What each option may be in a file, with its description and its default as it is written."""
    values = model.model_json_schema(schema_generator=_OfOptions)["properties"]
    found = {}
    for name, info in settable(model).items():
        value = values[name]
        kinds = [kind for kind in value.get("anyOf", [value]) if kind != {"type": "null"}]
        for kind in kinds:
            kind.pop("title", None)
            kind.pop("format", None)
            kind.pop("default", None)
            kind.pop("description", None)
        for item in info.metadata:
            if isinstance(item, Extensions):  # other packages may add to them
                kinds = [{"enum": list(item.built_in)}, {"type": "string"}]
        kind: Json = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        found[name] = {"description": info.description or "", **kind, **default_of(info)}
    return found


def default_of(info: FieldInfo) -> Json:
    """An option's default, as it stands in a file; nothing where there is none to tell."""
    text = default_text(info)
    if isinstance(info.default, bool) or (text or "").isdigit():
        return {"default": info.default}
    return {} if text is None else {"default": text}


def joined(of_commands: dict[str, Json]) -> Json:
    """A key that several commands know: what it is to each of them."""
    different: list[Json] = []
    for value in of_commands.values():
        if value not in different:
            different.append(value)
    if len(different) == 1:
        return different[0]
    told = []
    for value in different:
        names = ", ".join(name for name, of_name in of_commands.items() if of_name == value)
        told.append(f"{names}: {value['description']}")
    kinds: list[Json] = []
    for value in different:
        bare = {key: item for key, item in value.items() if key not in {"description", "default"}}
        for kind in bare.get("anyOf", [bare]):
            if kind not in kinds:
                kinds.append(kind)
    merged = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return {"description": "\n\n".join(told), **merged}
