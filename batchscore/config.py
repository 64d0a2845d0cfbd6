"""The options: one definition serves TOML, environment, command line and Python.

Every field's description is its line in ``--help``; its type parses what people write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from batchscore.engine_options import EngineOptions
from batchscore.errors import UsageError
from batchscore.extensions import INPUT_FORMATS, OUTPUT_FORMATS
from batchscore.nearest import nearest
from batchscore.option_types import Names, Options, Packs, Pairs, RetryTable
from batchscore.place_options import FolderSettings, Many, Place, Reports, StoreSettings
from batchscore.units import Duration, ListenAddress, MaxFailedRows, RateLimit, Size

Probs = Literal["struct", "list", "none"]
Token = str | Callable[[], str | None] | None
AUTO_ROWS = 1024
"""Rows of a chunk at most, where the data decides."""


class ConnectionConfig(Options):
    """Where the deployment is, and how to reach it."""

    url: str = Field(description="address of the deployment, http(s)://HOST/.../forward")
    token: Annotated[Token, Field(exclude=True, repr=False)] = None
    token_command: str | None = Field(None, description="command that prints the token")
    token_file: Path | None = Field(None, description="file that holds the token")
    timeout: Duration = Field(60.0, gt=0, description="time for one request, answer included")
    max_response_bytes: Size = Field(
        256 * 2**20, gt=0, description="largest answer that is read, unpacked"
    )
    ca_bundle: Path | None = Field(None, description="certificates to trust, a PEM file")
    header: Many = Field(
        (), description="header to add to each request, may be repeated", repr=False
    )
    header_file: Path | None = Field(None, description="file of extra headers, one a line")

    @field_validator("header")
    @classmethod
    def _header_form(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for line in value:
            if not re.match(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:", line):
                # The value may be a secret, so only its place in the list is told.
                raise ValueError("a header is not of the form 'Name: value'")
        return value


class InstancesTable(Options):
    """``[instances]`` of a config file: the JSON of endpoints that do as KServe v1 does, nearly."""

    request_key: str | None = Field("instances", description="key of the rows; empty: they alone")
    response_key: str | None = Field(
        "predictions", description="key of the predictions, or a.b; empty: the whole answer"
    )
    row: Literal["auto", "object", "list"] = Field(
        "auto",
        description="what a row is; auto: an object, or with one feature its value alone",
    )
    columnar: bool = Field(False, description="send a list a column, as TensorFlow's inputs")
    single: bool = Field(False, description="send a request for each row, not a list of rows")
    image: Literal["b64", "base64", "data-uri"] = Field(
        "b64", description='form of pictures; b64: {"b64": "..."}, base64: that text alone'
    )
    extra: dict[str, Any] = Field({}, description="other keys of each request")

    @model_validator(mode="before")
    @classmethod
    def _columnar_keys(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("columnar"):
            return {"request_key": "inputs", "response_key": "outputs", **values}
        return values

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.columnar and (self.single or self.row == "list"):
            raise ValueError("columnar goes with neither single nor row = 'list'")
        if self.extra and not self.request_key:
            raise ValueError("extra needs a request_key: without, the rows are all that is sent")
        if self.request_key in self.extra:
            raise ValueError(f"extra: the key {self.request_key!r} is that of the rows")
        return self


class EndpointConfig(ConnectionConfig):
    """Where the deployment is, and how to talk to it."""

    protocol: str = Field(
        "auto",
        description="wire format of the deployment; auto: recognised; of your own: a registered "
        "name, package.module:Class or file.py:Class",
    )
    features: Names = Field(
        (), description="columns to send, where the deployment does not tell its inputs"
    )
    schema_file: Path | None = Field(
        None, alias="schema", description="file that tells the model's inputs, such as MLmodel"
    )
    pack: Packs = Field({}, description="columns that make one input together, may be repeated")
    classes: Names = Field((), description="classes of the categorical output")
    instances: InstancesTable = Field(
        default_factory=InstancesTable, description="keys of the instances protocol"
    )

    @field_validator("features", "classes")
    @classmethod
    def _all_different(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        what = {"classes": "class", "features": "column"}[info.field_name or "classes"]
        for name in value:
            if value.count(name) > 1:
                raise ValueError(f"the {what} {name!r} is given twice")
        return value


class ClientConfig(EndpointConfig):
    """What a ``Deployment`` in Python can be told."""

    batch_size: int = Field(128, ge=1, description="rows in a request")
    concurrency: int = Field(8, ge=1, description="requests in flight")
    max_attempts: int = Field(5, ge=1, description="tries of one request")


class SendingConfig(ConnectionConfig):
    """How rows are sent, and the run is reported."""

    batch_size: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="rows in a request; auto: adapts, up to 1,024 or 1 MiB"
    )
    max_batch_bytes: Size = Field(8 * 2**20, gt=0, description="largest body of a request")
    concurrency: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="requests in flight; auto: adapts to what the server takes, up to 256"
    )
    processes: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        1, description="processes that score, and share the limits; auto: one for each core"
    )
    rate_limit: RateLimit | None = Field(
        None, description="send no more than 50req/s or 5000rows/s"
    )
    max_attempts: int = Field(5, ge=1, description="tries of one request")
    max_outage: Duration = Field(
        300.0, ge=0, description="how long the deployment may be away, restarting for instance"
    )
    max_failed_rows: MaxFailedRows | None = Field(
        None,
        description="rows that may fail, a count or N%; more stop the job [default: unlimited]",
    )
    retry: RetryTable = Field(default_factory=RetryTable, description="statuses treated otherwise")
    report: Reports = Field(
        (), description="write how the run went to a .json or .html file, may be repeated"
    )
    metrics_port: ListenAddress | None = Field(
        None, description="serve the run's metrics for Prometheus at PORT or HOST:PORT, 0: any free"
    )
    metrics_linger: Duration = Field(
        0.0, ge=0, description="how long to wait at the end until the last metrics were fetched"
    )
    work_dir: Path | None = Field(None, description="folder for work in progress, else beside OUT")


class InputConfig(Options, StoreSettings, FolderSettings):
    """What is read, and how."""

    inputs: Many = Field(min_length=1, description="files, folders, globs, or - for standard input")
    input_format: Annotated[str | None, INPUT_FORMATS] = Field(
        None, description="format of the input, else by suffix"
    )
    map: Pairs = Field({}, description="column that serves a feature, may be repeated")
    delimiter: str | None = Field(None, description="CSV delimiter, one character or 'tab'")
    encoding: str = Field("utf-8", description="encoding of CSV and JSON Lines")
    null: Many = Field((), description="CSV text of a null, may be repeated")
    type: Pairs = Field({}, description="Arrow type of a CSV column, may be repeated")
    image_root: Place | None = Field(
        None, description="folder of image and .npy paths, else that of the input"
    )
    limit: int | None = Field(None, ge=0, description="score only the first rows")

    @field_validator("input_format", "output_format", check_fields=False)
    @classmethod
    def _known_format(cls, value: str | None, info: ValidationInfo) -> str | None:
        formats = INPUT_FORMATS if info.field_name == "input_format" else OUTPUT_FORMATS
        if value is not None and not formats.is_known(value):
            raise ValueError(f"{value!r} is not one of {formats.choice(value)}")
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        value = "\t" if value in {"tab", "\\t"} else value
        if value is not None and (len(value) != 1 or not value.isascii() or value in '"\r\n'):
            raise ValueError(f"{value!r} is not one ASCII character; write ';' or tab")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError:
            raise ValueError(f"{value!r} is no encoding Python knows") from None
        return value


class ScoreConfig(EndpointConfig, InputConfig, SendingConfig, EngineOptions):
    """Everything ``score`` can be told."""

    output: str = Field(description="file to write: .arrow, .parquet, .csv, .jsonl, -, or FOLDER/")
    source_column: str | None = Field(None, description="add a column with each row's file")
    keep: Literal["all", "none"] | Names = Field("all", description="input columns in the output")
    drop: Names = Field((), description="input columns left out of the output")

    output_format: Annotated[str | None, OUTPUT_FORMATS] = Field(
        None, description="format of the output, else by suffix"
    )
    probs: Probs = Field("struct", description="form of the class probabilities")
    prefix: str = Field(
        "predicted_", min_length=1, description="what the names of the predictions begin with"
    )
    max_part_bytes: Size = Field(
        256 * 2**20, gt=0, description="rows in a part of an output folder, as Arrow data"
    )
    resume: bool = Field(
        False,
        description="go on with what an earlier run of the same job left, or start where there is "
        "nothing; with --overwrite an existing output of another job is replaced at the end",
    )
    overwrite: bool = Field(
        False, description="replace an existing output; without --resume also work in progress"
    )

    @property
    def batch_rows(self) -> int | None:
        """The rows that were asked for in a request; None: the data and the deployment decide."""
        return None if self.batch_size == "auto" else self.batch_size

    @property
    def chunk_rows(self) -> int:
        """The rows of a chunk at most, and so of a request."""
        return self.batch_rows or AUTO_ROWS

    def output_options(self) -> dict[str, Any]:
        """What of the options shows in the output file, for its metadata and for resume."""
        names: tuple[str, ...] = (
            "map", "null", "delimiter", "encoding", "type", "keep", "drop", "limit",
            "source_column", "input_format", "image_root", "probs", "prefix", "classes",
            "batch_size", "protocol", "features", "schema_file", "pack", "instances",
        )  # fmt: skip
        # What most jobs do is left out: outputs of versions without the option stay theirs.
        names += () if self.hive else ("hive",)
        return self.model_dump(mode="json", include=set(names), by_alias=True)


class RescoreConfig(SendingConfig, StoreSettings):
    """Everything ``rescore`` can be told; the rest is in the output's metadata."""

    output: str = Field(description="the .arrow or .parquet file that score wrote")
    input: Many = Field(
        (), description="the original input, where the output does not hold all features"
    )
    image_root: Place | None = Field(
        None, description="folder of image and .npy paths, else the one that score was told"
    )
    resume: bool = Field(
        True,
        description="go on with what an earlier run left; --no-resume sends all failed rows again",
    )

    def as_score(self, options: Mapping[str, Any]) -> ScoreConfig:
        """The job that wrote the output, sending as this configuration says.

        Args:
            options: its ``output_options``.

        Raises:
            UsageError: they are none.
        """
        values = {
            **options,
            "inputs": self.input or (self.output,),
            "output": self.output,
            "url": self.url,
        }
        own = (*SendingConfig.model_fields, *StoreSettings.model_fields)
        sending = {name: getattr(self, name) for name in own}
        if self.image_root is not None:
            sending["image_root"] = self.image_root
        return configured(ScoreConfig, values).model_copy(update=sending)


C = TypeVar("C", bound=Options)


def configured(kind: type[C], values: dict[str, Any]) -> C:
    """A configuration from Python values.

    Raises:
        UsageError: a value is wrong, missing or unknown.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        option = ".".join(str(part) for part in first["loc"][:1]) or "options"
        if first["type"] == "extra_forbidden":
            hint = nearest(option, kind.model_fields)
            raise UsageError(f"there is no option {option!r}{hint}") from None
        raise UsageError(f"{option}: {first['msg'].removeprefix('Value error, ')}") from None
