"""The configurations of ``configs/`` on small servers that speak as those frameworks do.

Each server is the hello world of its framework, on the standard library: it knows nothing of the
package, and of requests no more than its framework would.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from integration.conftest import read_arrow
from integration.test_resume import run

CONFIGS = Path(__file__).parents[2] / "configs"
COLOURS = ("red", "green", "blue")
ROWS = pa.table(
    {
        "size": [n / 4 for n in range(90)],
        "weight": pa.array(range(90)),
        "colour": [COLOURS[n % 3] for n in range(90)],
        "note": ["carried along, not sent"] * 90,
    }
)
SUMS = [n / 4 + n for n in range(90)]


class Refused(Exception):
    """What the framework answers otherwise: a status and its words."""


def kserve(request: dict[str, Any]) -> Any:
    """KServe, Vertex AI: rows by name."""
    return {"predictions": [f"{row['size']} {row['colour']}" for row in request["instances"]]}


def tensorflow(request: dict[str, Any]) -> Any:
    """TensorFlow Serving by columns; it looks at the signature's name."""
    if request["signature_name"] != "serving_default":
        raise Refused(400, {"error": "Serving signature not found"})
    inputs = request["inputs"]
    return {"outputs": [a + b for a, b in zip(inputs["size"], inputs["weight"], strict=True)]}


def bentoml(request: dict[str, Any]) -> Any:
    """BentoML: a parameter's name around the rows, and nothing around the answer."""
    (rows,) = (request["input_data"],)
    return [a + b for a, b in rows]


def litserve(request: dict[str, Any]) -> Any:
    """LitServe: one row a request."""
    row = request["input"]
    return {"output": row["size"] + row["weight"]}


def own(request: list[dict[str, Any]]) -> Any:
    """Somebody's own, who answers 500 to what it does not expect."""
    if any(row["size"] == 20 for row in request):
        raise Refused(500, {"detail": "ZeroDivisionError"})
    return {"result": {"scores": [row["size"] + row["weight"] for row in request]}, "took": 1}


def mlflow(frame: pa.Table) -> Any:
    """MLflow, of Parquet."""
    return {"predictions": [f"{row['size']} {row['colour']}" for row in frame.to_pylist()]}


@contextmanager
def serving(path: str, predict: Callable[[Any], Any]) -> Iterator[tuple[str, list[str]]]:
    """A server of one function; its address, and the hosts that rows were sent to."""
    hosts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = {"/v1/models/m": {"name": "m", "ready": True}, "/ping": None}
            self.reply(200 if self.path in known else 405, known.get(self.path))

        def do_POST(self) -> None:
            hosts.extend(self.headers.get_all("Host"))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != path:
                self.reply(404, {"detail": "Not Found"})
                return
            is_json = self.headers["Content-Type"] == "application/json"
            request = json.loads(body) if is_json else pq.read_table(io.BytesIO(body))
            try:
                self.reply(200, predict(request))
            except Refused as refused:
                self.reply(*refused.args)

        def reply(self, status: int, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{path}", hosts
        finally:
            server.shutdown()
            thread.join()


def scored(tmp_path: Path, name: str, url: str, *more: str, code: int = 0) -> pa.Table:
    pq.write_table(ROWS, tmp_path / "data.parquet")
    words = ("data.parquet", "--config", CONFIGS / name, "--url", url, "-o", "scored.arrow", *more)
    done = run(tmp_path, *words)
    assert done.returncode == code, done.stderr
    out = read_arrow(tmp_path / "scored.arrow")
    assert out.select(ROWS.column_names).equals(ROWS.cast(out.select(ROWS.column_names).schema))
    return out


@pytest.mark.parametrize(
    ("config", "path", "predict", "wanted"),
    [
        ("tensorflow-serving.toml", "/v1/models/m:predict", tensorflow, SUMS),
        ("bentoml.toml", "/predict", bentoml, SUMS),
        ("litserve.toml", "/predict", litserve, SUMS),
        (
            "kserve.toml", "/v1/models/m:predict", kserve,
            [f"{n / 4} {COLOURS[n % 3]}" for n in range(90)],
        ),
        (
            "mlflow.toml", "/invocations", mlflow,
            [f"{n / 4} {COLOURS[n % 3]}" for n in range(90)],
        ),
    ],
)  # fmt: skip
def test_an_example_scores_what_it_is_for(tmp_path, config, path, predict, wanted):
    """Every example of a server runs as it stands, on a server that speaks like that one."""
    with serving(path, predict) as (url, _):
        out = scored(tmp_path, config, url)
    assert out["predicted_prediction"].to_pylist() == wanted
    assert out["prediction_error"].null_count == 90


def test_an_endpoint_written_by_hand(tmp_path):
    """Where the table of statuses says that 500 is the rows' fault, it is found."""
    with serving("/score", own) as (url, _):
        out = scored(tmp_path, "own-endpoint.toml", url, code=3)
    wanted = [None if n == 80 else total for n, total in enumerate(SUMS)]
    assert out["predicted_prediction"].to_pylist() == wanted
    assert out["prediction_error"][80].as_py() == "http_500: ZeroDivisionError"


def test_the_ingress_gets_the_models_host(tmp_path):
    """``--header 'Host: ...'`` goes out once, in the place of the address's own."""
    with serving("/v1/models/m:predict", kserve) as (url, hosts):
        scored(tmp_path, "kserve.toml", url, "--header", "Host: m.models.example.com")
    assert hosts == ["m.models.example.com"]
