"""Faults, and the scripts that choose them.

A script is an iterable with a fault or None for each request in order of arrival (normal
answers when it is used up), or a callable from ``RequestInfo`` to a fault or None. Iterables and
callables marked ``before_body`` are asked when the head of a request has arrived, other callables
when its rows are known.
"""

from __future__ import annotations

import itertools
import json
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from faultserver.requests import RequestInfo

Rows = list[dict[str, Any]]
Wire = Literal[
    "whole", "reset_before", "reset_after", "reset_middle", "close", "hang", "stall", "truncate",
    "drip",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is sent instead of the model's."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request; combine with ``dataclasses.replace``.

    Attributes:
        name: the factory that made it.
        reply: sent instead of the model's answer, which is then never computed.
        alter: changes the rows of the model's answer.
        wire: how the bytes travel.
        delay_s: time before anything is sent, on top of the server's own.
        interval_s: time between two bytes of a drip.
        bare_nan: the answer is written with bare NaN and Infinity.
    """

    name: str
    reply: Reply | None = None
    alter: Callable[[Rows], Rows] | None = None
    wire: Wire = "whole"
    delay_s: float = 0.0
    interval_s: float = 0.0
    bare_nan: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.reply.status}" if self.reply else self.name

    @property
    def is_harmless(self) -> bool:
        """Whether the model's answer arrives whole, only later."""
        return self.reply is None and self.alter is None and self.wire in {"whole", "drip"}


ScriptCallable = Callable[["RequestInfo"], "Fault | None"]
Script = Iterable["Fault | None"] | ScriptCallable | None


def error_body(code: str, message: str) -> bytes:
    """The Deployment API's error message as JSON."""
    return json.dumps({"errorCode": code, "errorMessage": message}).encode()


def status(
    code: int,
    message: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    retry_after: float | str | None = None,
) -> Fault:
    """An answer with that status; its body is an API error unless one is given."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    if retry_after is not None:
        sent["Retry-After"] = str(retry_after)
    content = error_body(f"HTTP_{code}", message or "scripted fault") if body is None else body
    return Fault("status", Reply(code, content, sent))


def reset(when: Literal["before", "after", "middle"] = "after") -> Fault:
    """RST: before the body is read, after it, or in the middle of the answer."""
    wires: dict[str, Wire] = {
        "before": "reset_before", "after": "reset_after", "middle": "reset_middle",
    }  # fmt: skip
    return Fault("reset", wire=wires[when])


def close() -> Fault:
    """The connection ends in good order, without an answer."""
    return Fault("close", wire="close")


def truncate() -> Fault:
    """Half of the promised body, then an orderly end."""
    return Fault("truncate", wire="truncate")


def hang() -> Fault:
    """Never an answer; the connection stays open until either side closes it."""
    return Fault("hang", wire="hang")


def stall() -> Fault:
    """Half of the answer, then nothing more, on an open connection."""
    return Fault("stall", wire="stall")


def slow(delay_s: float) -> Fault:
    """A good answer, later."""
    return Fault("slow", delay_s=delay_s)


def drip(interval_s: float = 0.001) -> Fault:
    """A good answer, byte by byte."""
    return Fault("drip", wire="drip", interval_s=interval_s)


def wrong_row_count(delta: int = -1) -> Fault:
    """Rows missing at the end (negative), or the last row repeated (positive)."""

    def alter(rows: Rows) -> Rows:
        return rows[:delta] if delta < 0 else rows + rows[-1:] * delta

    return Fault("wrong_row_count", alter=alter)


def html_200() -> Fault:
    """A web page with status 200, as captive portals and gateways send it."""
    page = b"<!DOCTYPE html><html><body><h1>Please log in</h1></body></html>"
    return Fault("html_200", Reply(200, page, {"Content-Type": "text/html; charset=utf-8"}))


def empty_200() -> Fault:
    """Status 200 without a body."""
    return Fault("empty_200", Reply(200))


def error_in_200(code: str = "INTERNAL", message: str = "scripted fault") -> Fault:
    """An API error with status 200."""
    return replace(status(200, body=error_body(code, message)), name="error_in_200")


def invalid_json() -> Fault:
    """Status 200 with JSON that breaks off."""
    return replace(status(200, body=b'{"rows": [{"y": 1.'), name="invalid_json")


def broken_gzip() -> Fault:
    """Status 200 with a whole body that says it is gzip, and is not."""
    answer = status(200, body=b"no gzip", headers={"Content-Encoding": "gzip"})
    return replace(answer, name="broken_gzip")


def bare_nan() -> Fault:
    """Every number of the answer becomes NaN, Infinity or -Infinity in turn, written bare."""

    def alter(rows: Rows) -> Rows:
        values = itertools.cycle((float("nan"), float("inf"), float("-inf")))

        def spoil(value: Any) -> Any:
            match value:
                case bool():
                    return value
                case int() | float():
                    return next(values)
                case dict():
                    # A shape stays what it is, or the array could not be told any more.
                    return {k: v if k == "shape" else spoil(v) for k, v in value.items()}
                case list():
                    return [spoil(item) for item in value]
            return value

        return [spoil(row) for row in rows]

    return Fault("bare_nan", alter=alter, bare_nan=True)


def gzip_bomb(unpacked_bytes: int = 2**28) -> Fault:
    """A small gzip body of valid JSON that unpacks to about that many bytes."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return Fault("gzip_bomb", Reply(200, _gzip_bomb(unpacked_bytes), headers))


def redirect(location: str, code: int = 307) -> Fault:
    """A redirect to another address."""
    return replace(status(code, body=b"", headers={"Location": location}), name="redirect")


@lru_cache(maxsize=4)
def _gzip_bomb(unpacked_bytes: int) -> bytes:
    block = b" " * 2**20
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [packer.compress(b'{"rows":[')]
    pieces += [packer.compress(block) for _ in range(max(1, unpacked_bytes // len(block)))]
    return b"".join([*pieces, packer.compress(b"]}"), packer.flush()])


# Scripts


F = TypeVar("F", bound=ScriptCallable)


def before_body(script: F) -> F:
    """Mark a script that looks at no rows: it is asked before the body has arrived."""
    script.before_body = True  # type: ignore[attr-defined]
    return script


def always(fault: Fault) -> Iterator[Fault]:
    """The same fault for every request."""
    return itertools.repeat(fault)


def refuse_rows(predicate: Callable[[dict[str, Any]], bool], code: int = 422) -> ScriptCallable:
    """Refuse every batch that holds a row for which the predicate is true, not saying which."""
    refused = status(code, "a row is not acceptable")
    return lambda info: refused if any(map(predicate, info.rows)) else None


def too_large(*, max_rows: int | None = None, max_bytes: int | None = None) -> ScriptCallable:
    """Answer 413 to requests of more rows or more bytes."""
    refused = replace(status(413, "the request is too large"), name="too_large")

    def script(info: RequestInfo) -> Fault | None:
        over_rows = max_rows is not None and len(info.rows) > max_rows
        return refused if over_rows or (max_bytes is not None and info.body_bytes > max_bytes) \
            else None  # fmt: skip

    return script


def too_long(max_bytes: int) -> ScriptCallable:
    """Answer 413 to requests whose head announces a longer body."""
    refused = replace(status(413, "the request is too large"), name="too_large")
    return before_body(
        lambda info: refused if int(info.headers.get("content-length", 0)) > max_bytes else None
    )


def busy_above(in_flight: int, fault: Fault | None = None) -> ScriptCallable:
    """Answer 429 (or otherwise) to a request that would be one too many at once."""
    refused = fault or status(429, "too many requests")
    return before_body(lambda info: refused if info.in_flight > in_flight else None)


def first_of(*scripts: ScriptCallable) -> ScriptCallable:
    """The fault of the first script that has one; asked before the body if all of them are."""

    def script(info: RequestInfo) -> Fault | None:
        return next((fault for one in scripts if (fault := one(info))), None)

    if all(getattr(one, "before_body", False) for one in scripts):
        return before_body(script)
    return script


def mixed_faults(
    seed: int, share: float, kinds: Sequence[Fault | str | Mapping[str, Any]] | None = None
) -> ScriptCallable:
    """Let a share of the requests fail, each with one of the kinds (default: ``TRANSIENT``).

    Whether and how a request fails is a pure function of the seed and its index.
    """
    chosen = TRANSIENT if kinds is None else tuple(map(make_fault, kinds))

    @before_body
    def script(info: RequestInfo) -> Fault | None:
        dice = random.Random(f"{seed}:{info.index}")
        return dice.choice(chosen) if dice.random() < share else None

    return script


TRANSIENT: tuple[Fault, ...] = (
    status(500),
    status(502, body=b"<html>Bad Gateway</html>", headers={"Content-Type": "text/html"}),
    status(503),
    status(429, retry_after=0),
    reset("before"),
    reset("after"),
    reset("middle"),
    close(),
    truncate(),
    invalid_json(),
    empty_200(),
    html_200(),
    error_in_200(),
    wrong_row_count(-1),
)
"""Faults that a retry mends, none of which needs a timeout to be noticed."""

FACTORIES: Mapping[str, Callable[..., Fault]] = {
    factory.__name__: factory
    for factory in (
        status, reset, close, truncate, hang, stall, slow, drip, wrong_row_count, html_200,
        empty_200, error_in_200, invalid_json, broken_gzip, bare_nan, gzip_bomb, redirect,
    )
}  # fmt: skip


def make_fault(kind: Fault | str | Mapping[str, Any]) -> Fault:
    """The fault of ``"close"`` or ``{"kind": "status", "code": 503}``, as data files name it.

    Raises:
        ValueError: there is no fault of that kind.
    """
    if isinstance(kind, Fault):
        return kind
    options = {"kind": kind} if isinstance(kind, str) else dict(kind)
    name = str(options.pop("kind", None))
    if name not in FACTORIES:
        raise ValueError(f"{name!r} is no kind of fault; there are {', '.join(FACTORIES)}")
    return FACTORIES[name](**options)
