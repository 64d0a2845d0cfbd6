"""The identity of an input: any change shows, and it is quick."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from batchscore.errors import InputError
from batchscore.readers.identity import WHOLE_BYTES, identify

if TYPE_CHECKING:
    from pathlib import Path


def test_a_small_file_is_its_content(tmp_path: Path) -> None:
    """Neither its name nor its time counts, every byte does."""
    for name, content in (("a", b"one" * 9), ("b", b"one" * 9), ("c", b"one" * 8 + b"onE")):
        (tmp_path / name).write_bytes(content)
    os.utime(tmp_path / "b", ns=(1, 1))
    a, b, c = identify([tmp_path / name for name in "abc"], with_names=False)
    assert a == b != c
    assert (a.size, a.modified_ns, a.name) == (27, None, None)
    (named,) = identify([tmp_path / "a"], with_names=True)
    assert named.name == str(tmp_path / "a")


def test_a_large_file_is_samples_its_size_and_its_time(tmp_path: Path) -> None:
    """The first and the last byte count, and being written to does."""
    path = tmp_path / "large"
    size = WHOLE_BYTES + 12_345
    with path.open("wb") as file:
        file.truncate(size)
    os.utime(path, ns=(1, 1))

    def identity() -> tuple[int, str, int | None]:
        (found,) = identify([path], with_names=False)
        return found.size, found.digest, found.modified_ns

    seen = {identity()}
    for position in (0, size - 1):
        with path.open("r+b") as file:
            file.seek(position)
            file.write(b"x")
        os.utime(path, ns=(1, 1))
        seen.add(identity())
    os.utime(path, ns=(1, 2))
    seen.add(identity())
    with path.open("ab") as file:
        file.write(b"x")
    seen.add(identity())
    assert len(seen) == 5


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """What is gone by now is an input error."""
    with pytest.raises(InputError, match="gone"):
        identify([tmp_path / "gone"], with_names=False)
