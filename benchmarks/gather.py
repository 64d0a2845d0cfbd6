"""The asyncio script that people write: aiohttp, json, all calls at once by ``gather``."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
from loop import ROWS_A_CALL, values

if TYPE_CHECKING:
    from collections.abc import Sequence


async def score(session: aiohttp.ClientSession, url: str, rows: Sequence[Any]) -> list[float]:
    """The predictions of one call."""
    async with session.post(url, json={"rows": rows}) as response:
        response.raise_for_status()
        return [row["y"] for row in (await response.json())["rows"]]


async def score_all(url: str, rows: Sequence[Any]) -> list[float]:
    """The predictions of all rows; the session lets a hundred calls out at once."""
    async with aiohttp.ClientSession() as session:
        calls = [
            score(session, url, rows[start : start + ROWS_A_CALL])
            for start in range(0, len(rows), ROWS_A_CALL)
        ]
        answers = await asyncio.gather(*calls)
    return [prediction for answer in answers for prediction in answer]


def main() -> None:
    """Score a Parquet file and write the predictions to an Arrow file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input")
    parser.add_argument("--url", required=True)
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    table = pq.read_table(arguments.input)
    predictions = asyncio.run(score_all(arguments.url, values(table)))
    table = table.append_column("predicted_y", pa.array(predictions, pa.float64()))
    with pa.ipc.new_file(arguments.output, table.schema) as writer:
        writer.write_table(table)


if __name__ == "__main__":
    main()
