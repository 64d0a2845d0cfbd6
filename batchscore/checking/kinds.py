"""The kinds of trouble: told by what readers and codecs say of a row, each with what mends it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from batchscore.config import ScoreConfig

# Python's own form of a text, in which messages show what stands in the data.
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_SHOWN = re.compile(_QUOTED)
_OF_COLUMN = re.compile(rf"column ({_QUOTED})(?:: | )")
_NULL_TEXTS = frozenset({
    "na", "n/a", "#n/a", "null", "none", "nil", "nan", "-", "--", ".", "?", "missing", "unknown",
})  # fmt: skip
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of trouble.

    Attributes:
        name: as a program knows it.
        title: what it is, to stand behind the column's name.
        remedy: how to mend it.
        said: what is said of such a row, without the data that is quoted in it; a regular
            expression. Empty: told otherwise than by words.
    """

    name: str
    title: str
    remedy: str
    said: str = ""


ROW_KINDS = (
    Kind(
        "field_count", "the record has another number of fields than the header",
        "quote cells that hold the delimiter or a line break, or name it with --delimiter",
        r"^CSV record has",
    ),
    Kind(
        "json_line", "the line is no JSON object",
        "write one object {...} a line, or leave these lines out", r"^line is no JSON object",
    ),
    Kind(
        "encoding", "the cell is not text in this encoding",
        "say --encoding (latin-1, cp1252, utf-16, ...), or write the file anew as UTF-8",
        r"^the cell is not valid|is not UTF-8",
    ),
    Kind(
        "empty", "the cell is empty",
        "fill the cells, or leave these rows out: this input takes no nulls",
        r"the cell is empty|is empty; an input of packed",
    ),
    Kind(
        "path", "the file cannot be read",
        "correct the paths, or say --image-root FOLDER",
        r"does not exist in|is outside the image root|is a folder$|is not a plain file|cannot be "
        r"read|is not a path|no folder is known",
    ),
    Kind(
        "picture", "the picture cannot be sent",
        "replace the pictures, or leave these rows out; whatever Pillow opens can be sent",
        r"the picture |is no data URI of a picture|its base64 is not valid",
    ),
    Kind(
        "shape", "the array has another shape",
        "make the arrays of that shape, or name another column with --map",
        r"its shape is|its lists are of different lengths",
    ),
    Kind(
        "number_type", "not a number of the type that the model takes",
        "round or correct the numbers, or leave these rows out",
        r"a number of the array is no|is no (?:u?int\d+|float\d*|double|bool|[A-Z]+\d+|BOOL)\b"
        r"|is beyond|is neither true nor false",
    ),
    Kind("number", "not a number", "correct the cells, or leave these rows out", r"is no number"),
    Kind(
        "date", "not a date and time", "write them as 2024-07-01T12:30:00", r"is no date and time",
    ),
    Kind(
        "array", "not an array of numbers",
        "give lists of numbers, or paths of .npy files; no null inside",
        r"is no JSON array|\.npy file|inside the array|is no array|not hold numbers|is missing$",
    ),
)  # fmt: skip
CELL_TYPE = Kind(
    "cell_type",
    "not of the type that --type names",
    "correct the cells, or name another type with --type",
)
OTHER = Kind("other", "the row cannot be sent", "correct the rows, or leave them out")
MISSING_COLUMN = Kind("missing_column", "no such column", "name another with --map FEATURE=COLUMN")
WRONG_TYPE = Kind("wrong_type", "the column's type can never serve", "cast the column")
NAME_COLLISION = Kind("name_collision", "two columns of the output have one name", "use --prefix")
OUTPUT = Kind("output", "the output cannot be written", "choose another format")
UNREADABLE = Kind("unreadable", "the input cannot be read any further", "mend the file")
REFUSED = Kind(
    "refused", "the deployment refused rows of the probe", "score fails those that it refuses alone"
)

NULL = Kind("null", "null, and sent as null", "harmless if the model takes missing values")
NONFINITE = Kind(
    "nonfinite", "NaN or infinite, and sent as null", "harmless if the model takes missing values"
)
UNLISTED = Kind(
    "unlisted_class", "none of the classes that the deployment lists",
    "sent all the same; the deployment decides",
)  # fmt: skip

_ROW_KIND = re.compile("|".join(f"(?P<k{n}>{kind.said})" for n, kind in enumerate(ROW_KINDS)))


def told_of(text: str) -> tuple[str | None, str]:
    """What is said of a row: the column that is named first, as Python shows it, and the rest."""
    named = _OF_COLUMN.match(text)
    return (None, text) if named is None else (named[1], text[named.end() :])


def kind_of(words: str) -> Kind:
    """The kind of what is said of a row, behind the column's name."""
    # What is quoted is data, and may say anything.
    found = _ROW_KIND.search(_SHOWN.sub("…", words))
    return ROW_KINDS[int((found.lastgroup or "k0")[1:])] if found else OTHER


def remedy_of(kind: Kind, values: Collection[str], config: ScoreConfig, *, is_text: bool) -> str:
    """How to mend a kind of trouble, as far as some of the values show it.

    Args:
        kind: the kind.
        values: some of the cells.
        config: what the job was told.
        is_text: the column is text without a type, as in CSV.
    """
    if not is_text or kind.name not in {"number", "number_type", "cell_type", "array"}:
        return kind.remedy
    nulls = [text for text in values if text.strip().lower() in _NULL_TEXTS]
    if nulls and not set(nulls) <= set(config.null):
        options = " ".join(f"--null '{text}'" for text in dict.fromkeys(nulls))
        others = "" if len(nulls) == len(values) else "; correct the others"
        return f"{options} makes unquoted cells of that text null{others}"
    if any(map(_DECIMAL_COMMA.fullmatch, values)):
        return "write numbers with a point, 3.5 and not 3,5"
    return kind.remedy
