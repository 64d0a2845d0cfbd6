"""What becomes of the rows of a chunk: encoded as for the job, and looked at where that fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.batches import RowBatch
from batchscore.checking.findings import MAX_EXAMPLES, Findings, Key
from batchscore.checking.kinds import (
    CELL_TYPE,
    NONFINITE,
    NULL,
    OTHER,
    UNLISTED,
    kind_of,
    told_of,
)
from batchscore.codecs.columns import is_bytes, is_text, is_untyped, plain, plain_type
from batchscore.codecs.text import text_of
from batchscore.scoring.requests import runs_on_the_wire, slices

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from batchscore.batches import Chunk, RowFailure
    from batchscore.checking.columns import Served
    from batchscore.checking.kinds import Kind
    from batchscore.protocols.base import EncodedRows, RowEncoder

# So many inputs are asked one by one; more of them first in groups.
_FEW = 4
# What is kept of a chunk to be sent: one request, or so many bytes.
_KEPT_BYTES = 4 * 2**20
# What the reader says of a row is one of these, or a cell that has not the type of ``--type``.
_OF_READERS = frozenset({"field_count", "json_line", "encoding"})


@dataclass(frozen=True, slots=True)
class Sendable:
    """Encoded rows of one request."""

    encoded: EncodedRows
    start: int
    stop: int
    nbytes: int


@dataclass(slots=True)
class Judged:
    """What became of a chunk.

    Attributes:
        rows, failed: how many there are, and how many of them fail unsent.
        requests, nbytes: what is to be sent, and how many bytes the bodies have.
        nonfinite: numbers that go out as null.
        problems, notes: what was found, rows counted from 1 in the whole input.
        sendable: the requests, where they are wanted.
    """

    rows: int
    failed: int = 0
    requests: int = 0
    nbytes: int = 0
    nonfinite: int = 0
    problems: Findings = field(default_factory=Findings)
    notes: Findings = field(default_factory=Findings)
    sendable: list[Sendable] = field(default_factory=list)

    def add(self, later: Judged) -> None:
        """Add what became of the rows behind these, but for the requests."""
        self.rows += later.rows
        self.failed += later.failed
        self.requests += later.requests
        self.nbytes += later.nbytes
        self.nonfinite += later.nonfinite
        self.problems.absorb(later.problems.values())
        self.notes.absorb(later.notes.values())

    def is_shown(self, key: Key) -> bool:
        """Whether there are examples enough of a problem or note."""
        finding = self.problems.get(key) or self.notes.get(key)
        return finding is not None and finding.is_shown


class Judge:
    """Judges chunks, in any thread.

    Args:
        served: what is sent of the rows, and the encoders.
        max_batch_bytes: the largest body of a request.

    Attributes:
        exemplified: what needs no more rows as examples: earlier chunks have enough of them.
    """

    def __init__(self, served: Served, max_batch_bytes: int) -> None:
        self._served = served
        self._max_bytes = max_batch_bytes
        self._parts: dict[tuple[int, int], RowEncoder] = {}
        self._inputs = len(served.features.sources)
        self._names: dict[str, str] = {}
        self.exemplified: set[Key] = set()
        self._noted = list(_noted(served))

    def judge(self, chunk: Chunk, *, keep: bool) -> Judged:
        """Judge a chunk; blocks.

        Args:
            chunk: the rows.
            keep: keep its requests, to send some.
        """
        rows, encoder = chunk.rows, self._served.encoder
        judged = Judged(rows.num_rows)
        if encoder is None:
            self._blame_reader(judged, chunk.start_row, rows)
            judged.failed = len(rows.failures)
            return judged
        bounds, _ = runs_on_the_wire(rows, encoder, self._max_bytes)
        for start, stop in bounds:
            part = rows.slice(start, stop) if (start, stop) != (0, rows.num_rows) else rows
            encoded = encoder.encode(part)
            self._count(judged, encoded, keep=keep)
            self._look(judged, encoded, chunk.start_row + start, part)
        return judged

    def _count(self, judged: Judged, encoded: EncodedRows, *, keep: bool) -> None:
        """Count what is sent, cut as the job would cut it."""
        judged.failed += len(encoded.failures)
        judged.nonfinite += encoded.nonfinite
        total = len(encoded.positions)
        if not total:
            return
        for start, stop in slices(total, encoded.size, self._max_bytes):
            size = encoded.size(start, stop)
            judged.requests += 1
            judged.nbytes += size
            if keep and sum(each.nbytes for each in judged.sendable) < _KEPT_BYTES:
                judged.sendable.append(Sendable(encoded, start, stop, size))

    def _look(self, judged: Judged, encoded: EncodedRows, start_row: int, rows: RowBatch) -> None:
        """Find what is wrong in the rows that fail, and what is odd in the others."""
        blamed = self._blame_reader(judged, start_row, rows)
        self._blame_cells(judged, start_row, rows, encoded.failures, blamed)
        if encoded.nonfinite and self._served.can_divide:
            self._note_nonfinite(judged, start_row, rows)
        self._note_cells(judged, start_row, rows.columns, list(encoded.failures))

    def _blame_reader(self, judged: Judged, start_row: int, rows: RowBatch) -> dict[int, str]:
        """Tell of rows that were not read; the one bad cell of those whose others were read."""
        blamed: dict[int, str] = {}
        for row, failure in rows.failures.items():
            shown, words = told_of(failure.text)
            kind = kind_of(words)
            if kind.name not in _OF_READERS:
                kind = OTHER if shown is None else CELL_TYPE
            name = None if shown is None else self._name_of(shown, rows.columns)
            finding = judged.problems.of(kind, name)
            finding.count += 1
            if finding.key not in self.exemplified:
                # The cell is null by now; what stood there is in the words.
                finding.show(start_row + row + 1, None, words)
            if name is not None:
                blamed[row] = name
        return blamed

    def _blame_cells(
        self,
        judged: Judged,
        start_row: int,
        rows: RowBatch,
        failures: Mapping[int, RowFailure],
        blamed: Mapping[int, str],
    ) -> None:
        """Tell all that is wrong in rows: the job tells of each the first thing alone."""
        batch = rows.columns
        failing = sorted((failures.keys() - rows.failures.keys()) | blamed.keys())
        # One column may serve several inputs, and fail them with the same words.
        told: set[tuple[int, str]] = set()
        if failing and self._served.can_divide:
            whole = len(failing) == rows.num_rows
            taken = RowBatch(batch if whole else batch.take(pa.array(failing)))
            for encoded in self._each_input(taken, 0, self._inputs):
                told.update((failing[n], why.text) for n, why in encoded.failures.items())
        untold = set(failing).difference((row for row, _ in told), blamed)
        told.update((row, failures[row].text) for row in untold)
        for row, text in sorted(told):
            shown, words = told_of(text)
            name = None if shown is None else self._name_of(shown, batch)
            if row in blamed and blamed[row] == name:
                continue  # the cell is empty because it could not be read
            finding = judged.problems.of(kind_of(words), name)
            finding.count += 1
            if finding.key not in self.exemplified:
                value = None if name is None else batch.column(name)[row]
                finding.show(start_row + row + 1, value, words)

    def _name_of(self, shown: str, batch: pa.RecordBatch) -> str | None:
        """The column that Python shows like this."""
        if not self._names:
            self._names = {repr(name): name for name in batch.schema.names}
        return self._names.get(shown)

    def _each_input(self, rows: RowBatch, start: int, stop: int) -> Iterator[EncodedRows]:
        """The rows encoded for those inputs alone in which something fails or is not finite."""
        parts = stop - start if stop - start <= _FEW else 2
        for part in range(parts):
            first = start + (stop - start) * part // parts
            last = start + (stop - start) * (part + 1) // parts
            encoded = self._part(first, last).encode(rows)
            if not (encoded.failures or encoded.nonfinite):
                continue
            if last - first == 1:
                yield encoded
            else:
                yield from self._each_input(rows, first, last)

    def _part(self, start: int, stop: int) -> RowEncoder:
        found = self._parts.get((start, stop))
        if found is None:
            found = self._parts[start, stop] = self._served.part(start, stop)
        return found

    def _note_nonfinite(self, judged: Judged, start_row: int, rows: RowBatch) -> None:
        """Which columns have the numbers that are null on the wire, and in which rows first."""
        batch = RowBatch(rows.columns)
        for place, source in enumerate(self._served.features.sources):
            if not any(map(self._may_be_nonfinite, source.columns)):
                continue
            encoder = self._part(place, place + 1)
            count = encoder.encode(batch).nonfinite
            if not count:
                continue
            name = source.columns[0] if len(source.columns) == 1 else source.feature
            finding = judged.notes.of(NONFINITE, name)
            finding.count += count
            if finding.key in self.exemplified:
                continue
            for row in _first_rows(encoder, batch, 0, MAX_EXAMPLES):
                value = None if source.is_packed else rows.columns.column(name)[row]
                finding.show(start_row + row + 1, value, NONFINITE.title)

    def _may_be_nonfinite(self, column: str) -> bool:
        field_ = self._served.features.columns.field(column)
        type_ = plain_type(field_.type)
        never = pa.types.is_integer(type_) or pa.types.is_boolean(type_) or is_bytes(type_)
        return not (never or (is_text(type_) and not is_untyped(field_)))

    def _note_cells(
        self, judged: Judged, start_row: int, batch: pa.RecordBatch, failing: list[int]
    ) -> None:
        """Nulls, and categories that are none of the deployment's, in rows that are sent."""
        for name, empty_too, classes in self._noted:
            cells = batch.column(name)
            if empty_too or cells.null_count:
                mask = _absent(cells, empty_too=empty_too)
                self._note(judged, NULL, name, mask, start_row, failing)
            if classes:
                texts, _ = text_of(plain(cells))
                known = pc.is_in(texts, pa.array(classes, texts.type))
                others = pc.and_(texts.is_valid(), pc.invert(known))
                mask = others.to_numpy(zero_copy_only=False)
                self._note(judged, UNLISTED, name, mask, start_row, failing, cells)

    def _note(
        self,
        judged: Judged,
        kind: Kind,
        name: str,
        mask: NDArray[np.bool_],
        start_row: int,
        failing: list[int],
        cells: pa.Array | None = None,
    ) -> None:
        if failing:
            mask = mask.copy()
            mask[failing] = False
        rows = np.flatnonzero(mask)
        if not len(rows):
            return
        finding = judged.notes.of(kind, name)
        finding.count += len(rows)
        if finding.key in self.exemplified:
            return
        for row in rows[:MAX_EXAMPLES].tolist():
            finding.show(start_row + row + 1, None if cells is None else cells[row], kind.title)


def _noted(served: Served) -> Iterator[tuple[str, bool, tuple[str, ...]]]:
    """The column of each input, whether empty text is null to it, and its classes."""
    for spec, source in zip(served.signature.inputs, served.features.sources, strict=True):
        if source.is_packed:
            continue
        (name,) = source.columns
        is_text_wanted = spec.kind in {"text", "category"}
        empty_too = not is_text_wanted and is_untyped(served.features.columns.field(name))
        yield name, empty_too, (spec.classes or ()) if spec.kind == "category" else ()


def _first_rows(encoder: RowEncoder, rows: RowBatch, start: int, most: int) -> list[int]:
    """The first rows in which numbers go out as null, found by halving."""
    if not most or not encoder.encode(rows).nonfinite:
        return []
    if rows.num_rows == 1:
        return [start]
    middle = rows.num_rows // 2
    found = _first_rows(encoder, rows.slice(0, middle), start, most)
    rest = rows.slice(middle, rows.num_rows)
    return found + _first_rows(encoder, rest, start + middle, most - len(found))


def _absent(cells: pa.Array, *, empty_too: bool) -> NDArray[np.bool_]:
    """Which cells go out as null, perhaps those of empty text too."""
    cells = plain(cells)
    absent = cells.is_null()
    if empty_too:
        empty = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(cells)), 0)
        absent = pc.or_(absent, pc.fill_null(empty, False))
    mask: NDArray[np.bool_] = absent.to_numpy(zero_copy_only=False)
    return mask
