"""What the options are made of: their base, and the types that several of them have."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)


def _split_commas(value: object) -> object:
    """``a,b`` and ``["a,b", "c"]`` as a list of names; a list from TOML or Python stays itself."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _pairs(value: object) -> object:
    """``["A=B", ...]`` as a mapping; one side of ``=`` missing is refused."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        return value
    pairs: dict[str, str] = {}
    for item in value:
        left, sign, right = str(item).partition("=")
        if not (sign and left and right):
            raise ValueError(f"{item!r} is not of the form NAME=VALUE")
        if left in pairs:
            raise ValueError(f"{left!r} is given twice")
        pairs[left] = right
    return pairs


# What stands in a config file, for the JSON Schema that editors read.
_Texts = str | list[str]

Names = Annotated[tuple[str, ...], BeforeValidator(_split_commas, json_schema_input_type=_Texts)]
Pairs = Annotated[
    dict[str, str], BeforeValidator(_pairs, json_schema_input_type=dict[str, str] | _Texts)
]
Packs = Annotated[
    dict[str, Names], BeforeValidator(_pairs, json_schema_input_type=dict[str, _Texts] | _Texts)
]


class Options(BaseModel):
    """Options that belong together; unknown ones are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        defer_build=True,
        validate_by_alias=True,
        validate_by_name=True,
    )


_Status = (
    Annotated[int, Field(ge=100, le=599)]
    | Annotated[str, Field(pattern=r"^[1-5]([0-9][0-9]|xx|XX)$")]
)


class RetryTable(Options):
    """``[retry]`` of a config file: statuses (or ``5xx``) moved to another treatment."""

    retry: tuple[str, ...] = Field((), description="statuses that are retried")
    halve: tuple[str, ...] = Field(
        (), description="statuses that halve a batch at once; a single row is retried"
    )
    isolate: tuple[str, ...] = Field((), description="statuses that refuse the rows of a batch")
    stop: tuple[str, ...] = Field((), description="statuses that stop the job")

    @field_validator(
        "retry", "halve", "isolate", "stop", mode="before",
        json_schema_input_type=_Status | list[_Status],
    )  # fmt: skip
    @classmethod
    def _statuses(cls, value: object) -> object:
        values = value if isinstance(value, (list, tuple)) else [value]
        texts = tuple(str(item).lower() for item in values)
        for text in texts:
            if not re.fullmatch(r"[1-5](\d\d|xx)", text):
                raise ValueError(f"{text!r} is no HTTP status; write 409 or 5xx")
        return texts

    @model_validator(mode="after")
    def _only_once(self) -> Self:
        everything = [*self.retry, *self.halve, *self.isolate, *self.stop]
        twice = {status for status in everything if everything.count(status) > 1}
        if twice:
            raise ValueError(f"status {min(twice)} stands in two lists of [retry]")
        return self
