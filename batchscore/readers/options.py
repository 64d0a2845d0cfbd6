"""How input is to be read, and the file formats there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from batchscore.stores import StoreOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from batchscore.config import ScoreConfig

MAX_BATCH_ROWS = 65_536
TARGET_BATCH_BYTES = 4 * 2**20


@dataclass(frozen=True)
class ReadOptions:
    """How input is to be read.

    Attributes:
        input_format: ``parquet``, ``csv``, ``tsv``, ``arrow``, ``jsonl``, ``images`` or a
            registered name for every input; None: each file's suffix tells.
        delimiter: one ASCII character between CSV cells; None: tab for TSV, else a comma.
        encoding: of CSV and JSON Lines, any that Python knows.
        null: the unquoted CSV cells that are null.
        types: the types of CSV columns, by column.
        source_column: name of a column to add with the file that each row came from.
        work_dir: folder for what must be stored before it can be read (standard input).
        not_input: files and folders that are the job's own, so that a folder or glob that holds
            them does not mean them.
        as_it_comes: read rows of a CSV pipe as soon as they are there, which costs time where there
            are many: whoever wants only the first need not wait for the others.
        store: how object stores are reached.
        hive: whether the key=value folders that files lie in are columns.
    """

    input_format: str | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    null: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    source_column: str | None = None
    work_dir: Path | None = None
    not_input: tuple[Path | str, ...] = ()
    as_it_comes: bool = False
    store: StoreOptions = field(default_factory=StoreOptions)
    hive: bool = False

    @classmethod
    def of(cls, config: ScoreConfig) -> Self:
        """What the configuration of a job says of its input."""
        return cls(
            input_format=config.input_format,
            delimiter=config.delimiter,
            encoding=config.encoding,
            null=config.null,
            types=config.type,
            source_column=config.source_column,
            work_dir=config.work_dir,
            as_it_comes=config.limit is not None,
            store=StoreOptions(config.store_endpoint, config.store_region),
            hive=config.hive,
        )
