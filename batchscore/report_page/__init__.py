"""A report as one HTML page that needs nothing else: no network, no script.

``page`` takes the JSON of a report as it is, that of a benchmark or of a job. What servers said is
escaped, and what may be a secret is left out, whatever the JSON holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchscore.report_page.bench import bench_page
from batchscore.report_page.job import job_page
from batchscore.report_page.markup import MARK

if TYPE_CHECKING:
    from batchscore.report_page.parts import Report

__all__ = ["MARK", "page"]


def page(report: Report) -> str:
    """The page of a report.

    Args:
        report: the JSON that ``--report FILE.json`` writes.
    """
    return bench_page(report) if report.get("kind") == "bench" else job_page(report)
