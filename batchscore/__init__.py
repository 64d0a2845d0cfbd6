"""Score files of rows against a deployed model: streamed, in order, no row lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchscore.version import __version__ as __version__

if TYPE_CHECKING:
    from batchscore.api import (
        check,
        check_async,
        rescore,
        rescore_async,
        score,
        score_async,
        score_table,
    )
    from batchscore.checking.report import CheckReport
    from batchscore.deployment import AsyncDeployment, Deployment
    from batchscore.errors import (
        BatchscoreError,
        InputError,
        PredictionError,
        StoppedError,
        TemporaryError,
        UsageError,
    )
    from batchscore.metrics import RunReport
    from batchscore.schema import FeatureSpec

# Where each public name lives. They are imported when first used, so that `import batchscore`
# and `batchscore --help` stay quick.
_HOMES = {
    "AsyncDeployment": "deployment",
    "BatchscoreError": "errors",
    "CheckReport": "checking.report",
    "Deployment": "deployment",
    "FeatureSpec": "schema",
    "InputError": "errors",
    "PredictionError": "errors",
    "RunReport": "metrics",
    "StoppedError": "errors",
    "TemporaryError": "errors",
    "UsageError": "errors",
    "check": "api",
    "check_async": "api",
    "rescore": "api",
    "rescore_async": "api",
    "score": "api",
    "score_async": "api",
    "score_table": "api",
}

__all__ = [
    "AsyncDeployment",
    "BatchscoreError",
    "CheckReport",
    "Deployment",
    "FeatureSpec",
    "InputError",
    "PredictionError",
    "RunReport",
    "StoppedError",
    "TemporaryError",
    "UsageError",
    "check",
    "check_async",
    "rescore",
    "rescore_async",
    "score",
    "score_async",
    "score_table",
]


if not TYPE_CHECKING:  # for which every name would be there

    def __getattr__(name: str) -> object:
        """Import a public name on first use (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
