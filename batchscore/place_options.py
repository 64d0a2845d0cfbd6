"""The options that say where files are: paths, object stores, partitioned folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator


def _place(value: object) -> object:
    """A path, but an address stays as it is written: a path would lose one of its slashes."""
    is_address = isinstance(value, str) and "://" in value
    return Path(value) if isinstance(value, str) and not is_address else value


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, (str, Path)) else value


def _reports(value: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in value:
        # Of the address in a path one slash is left.
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]", str(path)):
            raise ValueError("a report is written to a local file, not to an address")
        if path.suffix not in REPORT_SUFFIXES:
            raise ValueError(f"{str(path)!r} does not end in .json or .html")
    return value


REPORT_SUFFIXES = (".json", ".html")
Place = Annotated[Path | str, BeforeValidator(_place)]
# What stands in a config file, for the JSON Schema that editors read.
_Texts = str | list[str]
Many = Annotated[tuple[str, ...], BeforeValidator(_one_or_many, json_schema_input_type=_Texts)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_one_or_many, json_schema_input_type=_Texts)]
Reports = Annotated[Paths, AfterValidator(_reports)]


class FolderSettings(BaseModel):
    """What the folders of files say of their rows."""

    hive: bool = Field(
        True, description="add the key=value folders that the files lie in as columns"
    )


class StoreSettings(BaseModel):
    """How object stores are reached."""

    store_endpoint: str | None = Field(
        None, description="address of an object store of one's own, such as MinIO or Ceph"
    )
    store_region: str | None = Field(None, description="region of the buckets")

    @field_validator("store_endpoint")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            is_sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            is_sound = False
        if not is_sound:
            raise ValueError("it is not of the form http(s)://HOST[:PORT]")
        if "@" in value or "?" in value or "#" in value:
            raise ValueError("it takes no login; credentials come from the store's own variables")
        return value.rstrip("/")
