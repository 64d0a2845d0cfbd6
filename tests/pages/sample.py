"""Reports as runs write them, with figures of queueing theory instead of measured ones."""

import math
from typing import Any

SERVICE_S = 0.02
PERCENTILES = (0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.9, 99.95, 99.99)


def bench_report() -> dict[str, Any]:
    """A benchmark of eight cells at a server with two workers: two open loops are invalid."""
    cells = [closed(n, rows) for rows in (1, 32) for n in (1, 2, 4, 8)]
    cells += [open_loop(rate) for rate in (10.0, 25.0, 40.0, 48.0)]
    cells[-1] |= {
        "valid": False,
        "why_invalid": [
            "820.0 ms of the p99 of 2302.7 ms are the client's own delay (read 820.0 ms late)"
        ],
        "errors": {"http_500": 3, "timeout": 41},
        "failed_requests": 44,
    }
    cells[-2]["is_stable"] = False
    return {
        "kind": "bench",
        "schema_version": 1,
        "status": "slo_missed",
        "exit_code": 3,
        "message": "missed: p99=330ms (460.62 ms at 40 req/s, 32 rows)",
        "version": "0.1.0",
        "started_at": "2026-11-25T18:00:00.000+00:00",
        "endpoint": "http://127.0.0.1:8080/deployment/penguins/forward",
        "protocol": "rows",
        "options": {"duration": 60.0, "warmup": 10.0, "seed": 1, "concurrency": [1, 2, 4, 8]},
        "environment": {
            "python": "CPython 3.13.1",
            "system": "Linux 6.1",
            "processor": "Imaginary Processor at 3 GHz",
            "cores": 2,
        },
        "cells": cells,
        "slo": [
            {"text": "p99=330ms", "cell": 8, "value": 0.11523, "is_kept": True},
            {"text": "p99=330ms", "cell": 10, "value": 0.46062, "is_kept": False},
        ],
        "find_max": [search(32, 36.0, is_best=True), search(1, 36.0, is_best=False)],
        "reuse": {"unique": 4, "reused": 5, "ratio": 0.41},
        "comparison": {
            "confidence": 0.95,
            "max_regression": 0.05,
            "old": {
                "version": "0.1.0",
                "started_at": "2026-11-24T18:00:00.000+00:00",
                "differences": ["duration 10 before, now 60"],
                "missing": ["48 req/s, 32 rows"],
            },
            "cells": [
                {
                    "cell": 8,
                    "metric": "response_s.p99",
                    "old": 0.110,
                    "new": 0.115,
                    "change": 0.045,
                    "low": 0.01,
                    "high": 0.09,
                    "is_regression": False,
                },
                {
                    "cell": 0,
                    "metric": "goodput_rows_per_s",
                    "old": 55.0,
                    "new": 49.0,
                    "change": -0.109,
                    "low": -0.14,
                    "high": -0.08,
                    "is_regression": True,
                },
            ],
        },
    }


def search(rows: int, best: float, *, is_best: bool) -> dict[str, Any]:
    """A search for the highest rate, as of M/M/1, which keeps p99 = 330 ms up to 36 a second."""
    steps = []
    for number, share in enumerate((0.28, 0.55, 0.9, 1.0, 1.03, 1.1, 1.25)):
        rate = best * share
        summary = open_loop(min(rate, 49.0))["response_s"]
        verdict = "kept" if share < 1 else "unsure" if share < 1.1 else "missed"
        steps.append(
            {
                "step": number,
                "rate": rate,
                "measurements": 3 if verdict == "unsure" else 1,
                "requests": round(60 * rate),
                "failed_requests": 0,
                "rows_per_s": rate * rows,
                "response_s": summary,
                "verdict": verdict,
                "seems_kept": share <= 1,
                "why_invalid": [],
            }
        )
    return {
        "batch_size": rows,
        "is_best": is_best,
        "rows_per_s": best * rows,
        "low": best * 0.9 * rows,
        "high": best * 1.1 * rows,
        "confidence": 0.95,
        "load": {"kind": "open", "rate": best, "arrivals": "poisson"},
        "client_limit": [],
        "steps": steps,
    }


def closed(concurrency: int, rows: int) -> dict[str, Any]:
    """Two workers: up to two requests at once nobody waits, beyond that all do."""
    mean = SERVICE_S * max(1, concurrency / 2)
    rate = concurrency / mean

    def at(percent: float) -> float:
        return mean * (0.8 + 0.4 * percent / 100) + 0.004 * -math.log10(1 - percent / 100)

    return cell({"kind": "closed", "concurrency": concurrency}, rows, rate, at, at)


def open_loop(rate: float) -> dict[str, Any]:
    """One worker, M/M/1: waiting and service are exponential."""

    def response(percent: float) -> float:
        return -math.log(1 - percent / 100) / (1 / SERVICE_S - rate) + 1e-4

    def service(percent: float) -> float:
        return -math.log(1 - percent / 100) * SERVICE_S + 1e-4

    load = {"kind": "open", "rate": rate, "arrivals": "poisson"}
    return cell(load, 32, rate, response, service)


def cell(load: dict[str, Any], rows: int, rate: float, response: Any, service: Any) -> dict:
    count = round(60 * rate)
    highest = 100 - 100 / count

    def summary(of: Any) -> dict[str, float]:
        points = {f"p{p:g}": of(p) for p in (50, 75, 90, 95, 99, 99.9)}
        return {"count": count, "mean": of(63.2), "min": of(0), **points, "max": of(highest)}

    return {
        "load": load,
        "batch_size": rows,
        "seconds": 60.0,
        "warmup_s": 10.0,
        "requests": count,
        "rows": count * rows,
        "failed_requests": 0,
        "attempts": count,
        "bytes_sent": count * rows * 90,
        "bytes_received": count * rows * 60,
        "requests_per_s": rate,
        "rows_per_s": rate * rows,
        "goodput_rows_per_s": rate * rows,
        "response_s": summary(response),
        "service_s": summary(service),
        "first_byte_s": summary(service),
        "connect_s": summary(lambda _: 0.0004),
        "distribution": [
            *([p, response(p), service(p)] for p in PERCENTILES if p <= highest),
            [100, response(highest), service(highest)],
        ],
        "over_time": [
            {
                "at_s": float(second),
                "requests": round(rate),
                "rows": round(rate) * rows,
                "errors": 0,
                "p50": response(50) * (1 + 0.1 * math.sin(second)),
                "p99": response(99) * (1 + 0.2 * math.sin(second * 1.7)),
                "max": response(99.9) * (1 + 0.3 * math.sin(second * 2.3)),
                "in_flight": 2,
            }
            for second in range(60)
        ],
        "errors": {},
        "loop_lag_s": {"p50": 2e-5, "p99": 4e-4, "max": 0.003},
        "client_cpu": 0.12,
        "client_share_s": 0.00021,
        "own_delay_s": {"p50": 0.0002, "p99": 0.0008},
        "valid": True,
        "why_invalid": [],
        "is_stable": True,
    }


SECRETS = ("SECRETTOKEN", "SECRETHEADER", "SECRETUSER", "SECRETQUERY")


def job_report() -> dict[str, Any]:
    """A job of two minutes with an outage in it, told as one that could not keep a secret."""
    history = [window(n) for n in range(240)]
    return {
        "schema_version": 1,
        "kind": "score",
        "status": "failed_rows",
        "exit_code": 3,
        "message": None,
        "resumable": False,
        "input": ["s3://SECRETUSER@bucket/rows.parquet?SECRETQUERY"],
        "output": "scored.arrow",
        "endpoint": "http://SECRETUSER:x@127.0.0.1:8080/deployment/penguins/forward?k=SECRETQUERY",
        "fingerprint": "0123456789abcdef",
        "version": "0.1.0",
        "started_at": "2026-11-25T18:00:00.000+00:00",
        "rows_read": 1_000_000,
        "rows_scored": 999_948,
        "rows_failed": 52,
        "rows_resumed": 0,
        "requests": 15_700,
        "retries": {"http_503": 41, "http_429": 212, "connection": 9},
        "concurrency": 24,
        "failed_rows": {"http_422": 40, "invalid_input": 11, "timeout": 1},
        "failed_examples": {
            "http_422": [
                {"row": 17, "text": "<script>alert(1)</script> & a price below 0: -1"},
                {"row": 34_017, "text": "x" * 480},
            ],
            "invalid_input": [{"row": 99, "text": "column 'age': 'old' is no number"}],
        },
        "bytes_sent": 90_000_000,
        "bytes_received": 60_000_000,
        "nonfinite_as_null": 3,
        "seconds": 120.0,
        "rows_per_second": 8333.3,
        "latency_s": {"p50": 0.02, "p90": 0.03, "p95": 0.04, "p99": 0.2, "p99.9": 1.2, "max": 4.0},
        "history": history,
        "options": {
            "token": "SECRETTOKEN",
            "token_command": "echo SECRETTOKEN",
            "header": ["X-Key: SECRETHEADER"],
            "url": "http://SECRETUSER@127.0.0.1/forward?SECRETQUERY",
            "instances": {"extra": {"key": "SECRETTOKEN"}},
            "batch_size": 64,
        },
        "environment": {"python": "CPython 3.13.1", "system": "Linux 6.1", "cores": 2},
    }


def window(number: int) -> dict[str, Any]:
    """Half a second of that job; in the middle the deployment is away."""
    is_away = 100 <= number < 120
    return {
        "at_s": (number + 1) / 2,
        "seconds": 0.5,
        "rows": 0 if is_away else round(4500 + 900 * math.sin(number / 9)),
        "failed_rows": 0 if is_away or number % 30 else 6,
        "requests": 1 if is_away else 70,
        "retries": {"http_503": 2} if is_away else {"http_429": number % 4} if number % 4 else {},
        "in_flight": 1 if is_away else 20 + number % 5,
        "limit": 1 if is_away else min(24, 2 + number),
        "p50_s": None if is_away else 0.02 + 0.004 * math.sin(number / 5),
        "p99_s": None if is_away else 0.2 + 0.1 * math.sin(number / 3),
    }
