"""Answers of one number a row, without a Python object a row."""

from __future__ import annotations

import re

import msgspec

_NUMBERS = msgspec.json.Decoder(list[float | None])


class NumberAnswers:
    """Reads ``{"rows":[{"y":1.5},{"y":2.5}]}``, however it is spaced.

    What stands between two numbers is the same throughout most answers, so with a comma in its
    place the numbers are a JSON list, which is read several times as fast. Only that way of
    writing makes a list of numbers, so no other answer is taken for one.
    """

    def __init__(self, name: str) -> None:
        key = re.escape(msgspec.json.encode(name))
        self._head = re.compile(rb'\s*\{\s*"rows"\s*:\s*\[\s*\{\s*%b\s*:' % key)
        self._between = re.compile(rb"\}\s*,\s*\{\s*%b\s*:" % key)
        self._tail = re.compile(rb"\}\s*\]\s*\}\s*")

    def decode(self, body: bytes) -> list[float | None] | None:
        """The numbers; None where the answer is not just these."""
        head = self._head.match(body)
        tail = self._tail.fullmatch(body, body.rfind(b"}", 0, body.rfind(b"]")))
        if head is None or tail is None:
            return None
        written = body[head.end() : tail.start()]
        between = self._between.search(written)
        replaced = written.replace(between[0], b",") if between else written
        try:
            numbers = _NUMBERS.decode(b"[%b]" % replaced)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        # All commas must be ours.
        gained = (len(numbers) - 1) * (len(between[0]) - 1) if between else len(numbers) - 1
        return numbers if len(written) - len(replaced) == gained else None
