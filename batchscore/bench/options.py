"""What ``bench`` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    field_validator,
    model_validator,
)

from batchscore.bench.slo import Slo
from batchscore.config import EndpointConfig, InputConfig, ScoreConfig, configured
from batchscore.place_options import Many, Reports
from batchscore.units import Duration, Share


def _numbers(value: object) -> object:
    """``1,2,4`` as a list; a list from TOML or Python stays itself."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, (int, float)) else value


def _is_auto(values: object, name: str) -> bool:
    return isinstance(values, dict) and str(values.get(name)).strip() == "auto"


_Count = Annotated[int, Field(ge=1)]
_Rate = Annotated[float, Field(gt=0)]
_Written = Annotated[str, Field(pattern=r"^[0-9., ]+$")]
Counts = Annotated[
    tuple[_Count, ...],
    BeforeValidator(_numbers, json_schema_input_type=_Count | _Written | list[_Count]),
]
Rates = Annotated[
    tuple[_Rate, ...],
    BeforeValidator(_numbers, json_schema_input_type=_Rate | _Written | list[_Rate]),
]


_MEASURED_INSTEAD = {
    "concurrency": "1, 2, 4 and 8 in flight",
    "batch_size": "32 rows a request",
}
"""What is measured where ``score`` would adapt."""


class BenchConfig(EndpointConfig, InputConfig):
    """Everything ``bench`` can be told."""

    _not_fixed: tuple[str, ...] = PrivateAttr(())

    concurrency: Counts = Field(
        (),
        description="closed loop: so many requests in flight, each sent when its predecessor is "
        "answered [default: 1,2,4,8 where there is no --rate]",
    )
    rate: Rates = Field(
        (),
        description="open loop: requests a second, sent in time whatever is in flight; latency "
        "counts from when a request was meant to be sent",
    )
    arrivals: Literal["poisson", "constant"] = Field(
        "poisson", description="gaps between the requests of an open loop"
    )
    batch_size: Counts = Field((32,), min_length=1, description="rows in a request")
    reuse_rows: bool = Field(
        False,
        description="measure the first load once more with the same rows in each request, which "
        "shows whether the deployment caches",
    )
    duration: Duration = Field(10.0, gt=0, description="time that each load is measured")
    warmup: Duration = Field(2.0, ge=0, description="time before that, which is not measured")
    min_requests: int = Field(
        100, ge=1, description="requests that a load is measured for, if it takes longer"
    )
    max_drift: Share = Field(
        0.1,
        gt=0,
        description="a load is measured longer until throughput and median of the later windows "
        "are that near to those of the earlier ones",
    )
    max_duration: Duration | None = Field(
        None, gt=0, description="longest time a load is measured [default: 3 times --duration]"
    )
    seed: int = Field(1, ge=0, description="of the random arrivals")
    max_attempts: int = Field(1, ge=1, description="tries of one request")
    max_client_share: Share = Field(
        0.2,
        gt=0,
        description="share of p50 or p99 that is the client's own delay, which makes a run invalid",
    )
    slo: Many = Field(
        (),
        description="what each load has to keep, else the exit code is 3, may be repeated: "
        "p99=100ms (also mean, max), throughput=500rows/s, errors=1%",
    )
    find_max: bool = Field(
        False,
        description="search for the highest rate that keeps every --slo, with each "
        "--batch-size, beginning at the first --rate [default: 10]",
    )
    compare: Path | None = Field(
        None, description="an earlier --report FILE.json, to tell what changed since"
    )
    max_regression: Share | None = Field(
        None,
        gt=0,
        description="with --compare: how much worse a load may have got, else the exit code is 3",
    )
    output: Path | None = Field(None, description="write the requests, a row each, to an .arrow")
    report: Reports = Field(
        (), description="write the figures to a .json or .html file, may be repeated"
    )

    @model_validator(mode="wrap")
    @classmethod
    def _without_auto(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Take ``auto``, which a file for ``score`` may say, as nothing said."""
        given = dict(values) if isinstance(values, dict) else values
        names = [name for name in _MEASURED_INSTEAD if _is_auto(given, name)]
        for name in names:
            del given[name]
        made = handler(given)
        if names:
            made._not_fixed = tuple(names)  # noqa: SLF001 - it is of this class
        return made

    @property
    def notes(self) -> tuple[str, ...]:
        """What was asked for and is not done, a line each."""
        lines = []
        is_open = self.rate or self.find_max
        for name in self._not_fixed:
            if name == "concurrency" and is_open:
                continue  # It is not asked for.
            option, instead = "--" + name.replace("_", "-"), _MEASURED_INSTEAD[name]
            lines.append(
                f"{option} auto is for score alone; bench measures {instead} "
                f"(write {option} 8,64 for others)"
            )
        return tuple(lines)

    @field_validator("slo")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Slo.parse(text)
        return value

    @model_validator(mode="after")
    def _something_to_regress_from(self) -> Self:
        if self.max_regression is not None and self.compare is None:
            raise ValueError("--max-regression needs --compare, the report to compare with")
        return self

    @model_validator(mode="after")
    def _something_to_keep(self) -> Self:
        if self.find_max and not self.slo:
            raise ValueError("--find-max needs --slo, what the rate has to keep")
        return self

    @field_validator("output")
    @classmethod
    def _arrow(cls, value: Path | None) -> Path | None:
        if value is not None and value.suffix != ".arrow":
            raise ValueError(
                f"{str(value)!r} does not end in .arrow; bench writes its requests there, "
                "so name a file for them, such as requests.arrow"
            )
        return value

    @property
    def slos(self) -> tuple[Slo, ...]:
        """What each load has to keep."""
        return tuple(map(Slo.parse, self.slo))

    @property
    def longest_s(self) -> float:
        """How long a load is measured at most, in seconds."""
        return max(self.duration, self.max_duration or 3 * self.duration)

    def as_score(self) -> ScoreConfig:
        """The job whose requests are measured."""
        names = (*EndpointConfig.model_fields, *InputConfig.model_fields)
        values = {name: getattr(self, name) for name in names}
        return configured(ScoreConfig, {**values, "output": "-"})
