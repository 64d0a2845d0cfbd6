"""The loop that people write from the API's own page: requests, json, 128 rows a call.

Pictures and arrays are put into JSON as the page shows it.
"""

from __future__ import annotations

import argparse
import base64
import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import requests

ROWS_A_CALL = 128


def main() -> None:
    """Score a Parquet file and write the predictions to an Arrow file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input")
    parser.add_argument("--url", required=True)
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    table = pq.read_table(arguments.input)
    rows = iter(values(table))
    predictions = []
    while batch := list(itertools.islice(rows, ROWS_A_CALL)):
        response = requests.post(arguments.url, json={"rows": batch}, timeout=60)
        response.raise_for_status()
        predictions += [row["y"] for row in response.json()["rows"]]
    table = table.append_column("predicted_y", pa.array(predictions, pa.float64()))
    with pa.ipc.new_file(arguments.output, table.schema) as writer:
        writer.write_table(table)


def values(table: pa.Table) -> list[dict[str, object]]:
    """The rows as JSON values, read at once."""
    columns = [wire_values(column.combine_chunks()) for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def wire_values(column: pa.Array) -> list[object]:
    """A column as JSON values."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        return [
            {"shape": list(array.shape), "data": array.flatten().tolist()}
            for array in column.to_numpy_ndarray()
        ]
    if pa.types.is_binary(column.type):
        return [encode_image(picture, "png") for picture in column.to_pylist()]
    return column.to_pylist()


def encode_image(image: bytes, img_type: str) -> str:
    """The function of the page, for a picture that was read already."""
    return f"data:image/{img_type};base64," + base64.b64encode(image).decode("ascii")


if __name__ == "__main__":
    main()
