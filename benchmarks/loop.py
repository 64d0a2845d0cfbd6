"""The loop that people write from the API's own page: requests, json, 128 rows a call."""

from __future__ import annotations

import argparse
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
    rows = iter(table.to_pylist())
    predictions = []
    while batch := list(itertools.islice(rows, ROWS_A_CALL)):
        response = requests.post(arguments.url, json={"rows": batch}, timeout=60)
        response.raise_for_status()
        predictions += [row["y"] for row in response.json()["rows"]]
    table = table.append_column("predicted_y", pa.array(predictions, pa.float64()))
    with pa.ipc.new_file(arguments.output, table.schema) as writer:
        writer.write_table(table)


if __name__ == "__main__":
    main()
