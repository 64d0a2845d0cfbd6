"""Parts that the pages of a job and of a benchmark share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from batchscore.endpoint import redacted
from batchscore.report_page.markup import Markup, element, facts, joined, section
from batchscore.shown import shown_options

if TYPE_CHECKING:
    from collections.abc import Mapping

Report = dict[str, Any]

STATUSES = {
    "ok": "All went well",
    "failed_rows": "Finished, with failed rows",
    "stopped": "Stopped: running the same again will not help",
    "usage": "Not begun: an option or the input is not as it must be",
    "temporary": "Stopped for now: the same command can go on later",
    "interrupted": "Interrupted",
    "terminated": "Terminated",
    "invalid": "Invalid: these figures do not tell how fast the deployment is",
    "failed": "Failed: no figures of answers that count",
    "slo_missed": "An objective was missed",
    "regressed": "Slower than before",
}


def head(title: str, report: Report) -> Markup:
    """What the page is about, and how it ended."""
    status = str(report.get("status"))
    message = report.get("message")
    is_good = status == "ok"
    sign = "✓" if is_good else "✗"
    said = STATUSES.get(status, status.replace("_", " "))
    about = [redacted(str(report[name])) for name in ("endpoint", "protocol") if report.get(name)]
    if report.get("started_at"):
        about.append(when_text(str(report["started_at"])))
    return joined(
        [
            element("h1", title),
            element("p", " · ".join(about), class_="soft"),
            element(
                "div",
                element("b", f"{sign} {said}."),
                element("span", f"Exit code {report.get('exit_code')}."),
                element("p", message, class_="say") if message else "",
                class_=f"status {'good' if is_good else 'bad'}",
            ),
        ]
    )


def when_text(moment: str) -> str:
    """A moment of ISO 8601 in UTC, to the minute; anything else as it is."""
    is_utc = moment.endswith("+00:00")
    return f"{moment[:16].replace('T', ' ')} UTC" if is_utc else moment


def figures(*drawn: Markup) -> Markup:
    """Charts beside each other where there is room; none without charts."""
    whole = joined(drawn)
    return element("div", whole, class_="figures") if whole else whole


def surroundings(report: Report) -> Markup:
    """The options and the environment of a run."""
    options = shown_options(report.get("options") or {})
    around = dict(report.get("environment") or {})
    if report.get("version"):
        around = {"batchscore": report["version"], **around}
    return joined(
        [
            section("Options", facts(_words(options)), id_="options"),
            section("Environment", facts(_words(around)), id_="environment"),
        ]
    )


def _words(values: Mapping[str, Any]) -> dict[str, str]:
    """Names and values as people read them; what is not set is left out."""
    told = {name.replace("_", " "): _word(value) for name, value in values.items()}
    return {name: word for name, word in told.items() if word}


def _word(value: Any) -> str:
    if value is None or value is False or value == {}:
        return ""
    if isinstance(value, list):
        return ", ".join(map(_word, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
