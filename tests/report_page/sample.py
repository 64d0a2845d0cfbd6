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
            "the client was busy for 97 % of the time; its own delay is in the figures"
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
        "message": "p99=100ms is missed at 40 req/s: 160 ms",
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
            {"text": "p99=100ms", "cell": 8, "value": 0.092, "is_met": True},
            {"text": "p99=100ms", "cell": 10, "value": 0.16, "is_met": False},
        ],
        "find_max": {
            "rows_per_s": 1180.0,
            "low": 1120.0,
            "high": 1240.0,
            "confidence": 0.95,
            "load": {"kind": "open", "rate": 36.0, "arrivals": "poisson"},
            "steps": [],
        },
        "reuse": {"unique": 4, "reused": 5, "ratio": 0.41},
        "comparison": {
            "old": {"version": "0.1.0", "started_at": "2026-11-24T18:00:00.000+00:00"},
            "cells": [
                {
                    "cell": 8,
                    "metric": "response_s.p99",
                    "old": 0.088,
                    "new": 0.092,
                    "change": 0.045,
                    "low": 0.01,
                    "high": 0.09,
                    "is_regression": False,
                },
                {
                    "cell": 0,
                    "metric": "rows_per_s",
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
        "valid": True,
        "why_invalid": [],
        "is_stable": True,
    }
