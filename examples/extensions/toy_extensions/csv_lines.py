"""Protocol ``csv-lines``: CSV with a header goes out, CSV with a header comes back.

``POST URL`` scores; ``GET URL/columns`` tells a column a line: ``input,size,numeric``.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from batchscore.extending import ModelSignature, PlainProtocol, Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class CsvLines(PlainProtocol):
    """Speaks CSV."""

    content_type = "text/csv"

    def metadata_request(self, url: str) -> Request:
        """Where the columns are told; a protocol without such a place states ``signature``."""
        return Request("GET", f"{url.rstrip('/')}/columns")

    def parse_metadata(self, response: Response) -> ModelSignature:
        """The deployment's inputs and outputs."""
        lines = list(csv.reader(io.StringIO(response.body.decode())))
        inputs = {name: kind for role, name, kind in lines if role == "input"}
        outputs = {name: kind for role, name, kind in lines if role == "output"}
        return ModelSignature.of(inputs, outputs)

    def encode(self, rows: Sequence[Mapping[str, object]], signature: ModelSignature) -> bytes:
        """A header and a line for each row; null is an empty cell."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [spec.name for spec in signature.inputs])
        writer.writeheader()
        for row in rows:
            if any("\n" in str(value) for value in row.values()):
                raise ValueError("a line break cannot be sent in a line of CSV")
            writer.writerow(row)
        return text.getvalue().encode()

    def decode(
        self, response: Response, signature: ModelSignature
    ) -> Sequence[Mapping[str, object]]:
        """The outputs of each row; what arrives is text, so numbers are made of it here."""
        rows: list[dict[str, object]] = []
        for line in csv.DictReader(io.StringIO(response.body.decode())):
            row: dict[str, object] = {}
            for spec in signature.outputs:
                cell = line[spec.name]
                row[spec.name] = float(cell) if cell and spec.kind == "number" else cell or None
            rows.append(row)
        return rows
