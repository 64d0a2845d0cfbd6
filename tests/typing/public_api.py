"""The types of the public API, as mypy sees them in an installed wheel; nothing here is run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, assert_type

import batchscore
from batchscore import extending
from batchscore.metrics import RunReport
from batchscore.schema import FeatureSpec


def jobs() -> None:
    report = batchscore.score(["a.csv", Path("b.csv")], Path("o.arrow"), url="u", token=lambda: "t")
    assert_type(report, RunReport)
    assert_type(report.rows_scored, int)
    assert_type(report.exit_code, int)
    assert_type(batchscore.score("a.csv", "o.arrow", url="u", keep=["id"]), RunReport)
    assert_type(batchscore.rescore("o.arrow", url="u", token=None), RunReport)
    batchscore.score("a.csv", "o.arrow")  # type: ignore[call-arg]
    batchscore.score("a.csv", "o.arrow", "u")  # type: ignore[call-arg]
    batchscore.score(1, "o.arrow", url="u")  # type: ignore[arg-type]
    batchscore.score("a.csv", "o.arrow", url="u", token=1)  # type: ignore[arg-type]
    batchscore.no_such_name  # type: ignore[attr-defined] # noqa: B018


async def jobs_of_async_code() -> None:
    assert_type(await batchscore.score_async("a.csv", "o.arrow", url="u"), RunReport)
    assert_type(await batchscore.rescore_async("o.arrow", url="u"), RunReport)
    async with batchscore.AsyncDeployment("u", token="t") as deployment:
        assert_type(deployment, batchscore.AsyncDeployment)
        assert_type(await deployment.predict(size=1.5), dict[str, Any])
        assert_type(await deployment.predict_many([{"size": 1.5}]), list[dict[str, Any]])
        assert_type(deployment.predict_lazy([{"size": 1.5}]), AsyncIterator[dict[str, Any]])
        assert_type(deployment.feature_specs_in, list[FeatureSpec])


def deployments() -> None:
    with batchscore.Deployment("u", lambda: None, batch_size=8) as deployment:
        assert_type(deployment, batchscore.Deployment)
        assert_type(deployment.predict(size=1.5), dict[str, Any])
        assert_type(deployment.predict_many({"size": n} for n in range(3)), list[dict[str, Any]])
        assert_type(deployment.predict_lazy([{"size": 1.5}]), Iterator[dict[str, Any]])
        assert_type(deployment.feature_specs_out[0].name, str)
        deployment.predict(1.5)  # type: ignore[call-arg]


def errors() -> None:
    try:
        asyncio.run(jobs_of_async_code())
    except batchscore.PredictionError as error:
        assert_type(error.failures[0], object)
    except batchscore.BatchscoreError as error:
        assert_type(error.exit_code, int)


class Lines(extending.FormatReader):
    """What an extension is typed by."""

    def batches(self, start_row: int) -> str:  # type: ignore[override]
        return extending.text_field("a").name or ""
