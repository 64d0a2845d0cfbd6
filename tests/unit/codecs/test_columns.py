"""Columns in Arrow's less common forms."""

from __future__ import annotations

import uuid

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from batchscore.codecs import input_codec
from batchscore.errors import InputError
from batchscore.schema import FeatureSpec

NUMBER = FeatureSpec("size", "numeric")
TEXT = FeatureSpec("note", "text")


def test_run_end_encoded_columns_are_decoded(encode, sent):
    """Runs of equal values are as many values, in slices too."""
    column = pc.run_end_encode(pa.array([1.5, 1.5, None, 2.0]))
    assert sent(encode(NUMBER, column)) == [1.5, 1.5, None, 2.0]
    assert sent(encode(NUMBER, column[1:3])) == [1.5, None]


def test_foreign_extension_types_are_what_they_store(encode, sent):
    """A column of JSON text is text, and one of 8-bit booleans numbers."""
    text = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}', None]))
    assert sent(encode(TEXT, text)) == ['{"a":1}', None]
    flags = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None], pa.int8()))
    assert sent(encode(NUMBER, flags[1:])) == [0, None]


def test_a_uuid_is_no_number():
    """What an extension stores decides what it can serve."""
    column = pa.array([uuid.UUID(int=1).bytes], pa.uuid())
    with pytest.raises(InputError, match="uuid"):
        input_codec(NUMBER, pa.field("x", column.type), tensor_json=True)
