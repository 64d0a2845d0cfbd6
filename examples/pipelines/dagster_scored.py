"""One asset of Dagster, a partition a day: ``dagster asset materialize -f dagster_scored.py ...``.

Every try is the same command with ``--resume``; its exit code says whether another may help.
"""

import json
import subprocess
from pathlib import Path

import dagster as dg

DAYS = dg.DailyPartitionsDefinition(start_date="2026-11-01")
TEMPORARY = {75, 130, 137, 143}  # away for too long, interrupted, killed, terminated
FIGURES = ("exit_code", "rows_scored", "rows_failed", "rows_resumed", "requests", "seconds")


class Scoring(dg.Config):
    """Where the rows are, and who scores them."""

    url: str
    rows: str = "rows"
    scored: str = "scored"
    command: list[str] = ["batchscore"]
    options: list[str] = []


@dg.asset(
    partitions_def=DAYS,
    pool="deployment",  # its limit says how many jobs share the deployment
    retry_policy=dg.RetryPolicy(
        max_retries=5, delay=60, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL
    ),
    check_specs=[dg.AssetCheckSpec("every_row_scored", asset="scored")],
)
def scored(context: dg.AssetExecutionContext, config: Scoring) -> dg.MaterializeResult:
    """The rows of a day with their predictions, one Parquet file."""
    name = f"{context.partition_key}.parquet"
    out = Path(config.scored, name)
    out.parent.mkdir(parents=True, exist_ok=True)
    report = out.with_name(f"{name}.report.json")
    report.unlink(missing_ok=True)  # a try that is killed writes none; the last one's would mislead
    words = ["score", f"{config.rows}/{name}", "--url", config.url, "-o", str(out), "--resume"]
    # What it says while it runs is in the step's standard error, which Dagster keeps.
    code = subprocess.run(
        [*config.command, *words, "--report", str(report), *config.options], check=False
    ).returncode
    told = json.loads(report.read_text()) if report.exists() else {}
    metadata = {
        **{figure: told[figure] for figure in FIGURES if figure in told},
        "failed_rows": dg.MetadataValue.json(told.get("failed_rows", {})),
        "report": dg.MetadataValue.path(str(report)),
    }
    if code not in (0, 3):
        raise dg.Failure(
            f"batchscore ended with {code}: {told.get('message', 'it was killed')}",
            metadata=metadata,
            allow_retries=code in TEMPORARY or code < 0,  # below 0: killed, the work stands
        )
    # 3: the output is whole, and rows in it say why they have no prediction.
    check = dg.AssetCheckResult(
        passed=code == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"rows_failed": metadata["rows_failed"]},
    )
    return dg.MaterializeResult(metadata=metadata, check_results=[check])


definitions = dg.Definitions(assets=[scored])
