"""The way of the API's first Python client: one session, one call after the other, 128 rows each.

Every value of every row is checked and encoded by the feature that the specification tells, and
every prediction decoded the same way; pictures go in as PIL images.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import urllib.parse
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import requests
from loop import ROWS_A_CALL
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Client:
    """A deployment, its features and a session."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        answer = self._session.get(urllib.parse.urljoin(url, "openapi.json"), timeout=60)
        answer.raise_for_status()
        schemas = answer.json()["components"]["schemas"]
        self._inputs = features(schemas["input-row"]["properties"])
        self._outputs = features(schemas["output-row-batch"]["properties"]["rows"]["properties"])

    def predict(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The predictions of the rows, as they come."""
        waiting = iter(rows)
        while batch := list(itertools.islice(waiting, ROWS_A_CALL)):
            encoded = [
                {name: encode(row[name], kind, shape) for name, kind, shape in self._inputs}
                for row in batch
            ]
            answer = self._session.post(self._url, json={"rows": encoded}, timeout=60)
            answer.raise_for_status()
            for row in answer.json()["rows"]:
                yield {name: row[name] for name, _, _ in self._outputs}


def features(properties: dict[str, Any]) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, type and shape of the features in a part of the specification."""
    told = {name: content["x-peltarion"] for name, content in properties.items()}
    return [(name, one["type"], tuple(one["shape"])) for name, one in told.items()]


def encode(value: object, kind: str, shape: tuple[int, ...]) -> object:
    """A value as it travels."""
    if isinstance(value, np.ndarray):
        if value.shape != shape:
            raise ValueError(f"expected shape {shape}, not {value.shape}")
        return {"shape": list(value.shape), "data": value.flatten().tolist()}
    if isinstance(value, Image.Image):
        buffer = io.BytesIO()
        value.save(buffer, format=value.format)
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    wanted = str if kind == "text" else (int, float)
    if not isinstance(value, wanted):
        raise TypeError(f"expected {wanted}, not {type(value)}")
    return value


def items(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows as people hand them to such a client."""
    found = [python_values(column.combine_chunks()) for column in table.columns]
    for row in zip(*found, strict=True):
        yield dict(zip(table.column_names, row, strict=True))


def python_values(column: pa.Array) -> Iterable[object]:
    """A column as numbers, strings, arrays or pictures."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        return column.to_numpy_ndarray()
    if pa.types.is_binary(column.type):
        return (Image.open(io.BytesIO(picture)) for picture in column.to_pylist())
    return column.to_pylist()


def main() -> None:
    """Score a Parquet file and write the predictions to an Arrow file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input")
    parser.add_argument("--url", required=True)
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    table = pq.read_table(arguments.input)
    predictions = [row["y"] for row in Client(arguments.url).predict(items(table))]
    table = table.append_column("predicted_y", pa.array(predictions, pa.float64()))
    with pa.ipc.new_file(arguments.output, table.schema) as writer:
        writer.write_table(table)


if __name__ == "__main__":
    main()
