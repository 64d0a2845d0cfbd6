"""Durations, sizes, rates and percentages as people write them: ``30s``, ``8MiB``, ``50req/s``."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer

_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%/]*)\s*")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}


LOOPBACK = "127.0.0.1"


class Rate(NamedTuple):
    """A bound on what is sent in a second."""

    per_second: float
    unit: Literal["requests", "rows"]


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class FailureLimit(NamedTuple):
    """How many rows may fail: a count, or a share of the rows read."""

    value: float
    is_share: bool

    def exceeded(self, failed: int, read: int) -> bool:
        """Whether so many failed rows are too many."""
        # Rounded: 29 % of 100 rows are 29 rows, and not 28.999999999999996.
        return failed > (round(self.value * read, 6) if self.is_share else self.value)


def _split(text: str, example: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not understood; write it like {example}")
    return float(match[1]), match[2]


def _one_of(text: str, unit: str, known: dict[str, float] | dict[str, int], example: str) -> float:
    if unit not in known:
        raise ValueError(f"{text!r} needs a unit ({', '.join(known)}); write it like {example}")
    return known[unit]


def parse_duration(value: object) -> object:
    """Seconds of ``30s``, ``5m``, ``250ms``; a bare number is seconds."""
    if not isinstance(value, str):
        return value
    number, unit = _split(value, "30s or 5m")
    return number * _one_of(value, unit.lower() or "s", _SECONDS, "30s or 5m")


def parse_size(value: object) -> object:
    """Bytes of ``8MiB``, ``64kB``; a bare number is bytes."""
    if not isinstance(value, str):
        return value
    number, unit = _split(value, "8MiB")
    return int(number * _one_of(value, unit.lower() or "b", _BYTES, "8MiB"))


def parse_rate(value: object) -> object:
    """The rate of ``50req/s`` or ``5000rows/s``."""
    if not isinstance(value, str):
        return value
    number, unit = _split(value, "50req/s or 5000rows/s")
    if number <= 0:
        raise ValueError(f"{value!r} would send nothing; a rate is above 0")
    match unit.lower():
        case "req/s" | "requests/s":
            return Rate(number, "requests")
        case "row/s" | "rows/s":
            return Rate(number, "rows")
    raise ValueError(f"{value!r} needs a unit; write it like 50req/s or 5000rows/s")


def parse_failure_limit(value: object) -> object:
    """The limit of ``100`` (rows) or ``1%`` (of the rows read)."""
    if isinstance(value, str):
        number, unit = _split(value, "100 or 1%")
        if unit not in {"", "%"} or (not unit and number != int(number)):
            raise ValueError(f"{value!r} is not understood; write it like 100 or 1%")
        if unit and number > 100:
            raise ValueError(f"{value!r} is more than all rows")
        return FailureLimit(number / 100 if unit else number, bool(unit))
    if isinstance(value, int) and not isinstance(value, bool):
        return FailureLimit(value, is_share=False)
    return value


def parse_share(value: object) -> object:
    """The part of 1 of ``5%``."""
    if not isinstance(value, str):
        return value
    number, unit = _split(value, "5%")
    if unit != "%":
        raise ValueError(f"{value!r} needs a %; write it like 5%")
    return number / 100


def share_text(share: float) -> str:
    """``5%`` of 0.05."""
    return f"{share * 100:g}%"


def parse_address(value: object) -> object:
    """Where to listen, of ``9090``, ``0.0.0.0:9090`` or ``[::1]:9090``; loopback without a host."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return value
    host, colon, port = str(value).strip().rpartition(":")
    if colon and not host:
        raise ValueError(f"{value!r} names no host; write {port} for this computer alone, "
                         f"0.0.0.0:{port} for all who can reach it")  # fmt: skip
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{value!r} is not understood; write [::1]:9090 where the host has colons")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"{value!r} is no port; write 9090 or HOST:9090, 0 for any free port")
    return Address(host or LOOPBACK, int(port))


def _number_text(number: float) -> str:
    """All its digits, as it is read back; never with an exponent."""
    return f"{number:.12f}".rstrip("0").rstrip(".")


def _rate_text(rate: Rate) -> str:
    return f"{_number_text(rate.per_second)}{'req' if rate.unit == 'requests' else 'rows'}/s"


def _limit_text(limit: FailureLimit) -> str:
    return f"{_number_text(limit.value * 100)}%" if limit.is_share else _number_text(limit.value)


# What stands in a config file, for the JSON Schema that editors read.
_NUMBER = r"^ *[0-9]+(\.[0-9]+)? *"


def _written(units: str) -> object:
    return Annotated[str, Field(pattern=f"{_NUMBER}{units} *$")]


Duration = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=float | _written("(ms|s|m|min|h|d)?")),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size, json_schema_input_type=int | _written("(([kmgKMG][iI]?)?[bB])?")),
]
Share = Annotated[float, BeforeValidator(parse_share, json_schema_input_type=float | _written("%"))]
RateLimit = Annotated[
    Rate,
    BeforeValidator(parse_rate, json_schema_input_type=_written("(req|requests|row|rows)/s")),
    PlainSerializer(_rate_text),
]
ListenAddress = Annotated[
    Address,
    BeforeValidator(parse_address, json_schema_input_type=int | str),
    PlainSerializer(str),
]
MaxFailedRows = Annotated[
    FailureLimit,
    BeforeValidator(parse_failure_limit, json_schema_input_type=int | _written("%?")),
    PlainSerializer(_limit_text),
]
