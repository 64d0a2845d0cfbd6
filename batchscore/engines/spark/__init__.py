"""Spark: rows of a DataFrame, or of files, scored by its executors (extra ``[spark]``)."""

from __future__ import annotations

from batchscore.engines.spark.dataframe import score_dataframe
from batchscore.engines.spark.failures import error_of, errors

__all__ = ["error_of", "errors", "score_dataframe"]
