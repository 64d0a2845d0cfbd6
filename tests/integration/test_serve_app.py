"""The local deployment over real sockets, against a small client written for this test."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import logging
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import numpy as np
import pytest
import requests
from PIL import Image

from batchscore.errors import UsageError
from batchscore.serving.app import running_deployment, serve
from batchscore.serving.demo import digits_table, penguins_table
from batchscore.serving.models import RowError

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "a-token"
PATH = "/deployment/{deploymentId}/forward"
EVERYTHING = {
    "number": ("numeric", ()),
    "probability": ("binary", (1,)),
    "label": ("categorical", (3,)),
    "text": ("text", ()),
    "png": ("image", (6, 5, 3)),
    "jpeg": ("image", (6, 5, 3)),
    "vector": ("numeric", (4,)),
    "tensor": ("numeric", (2, 3)),
    "file": ("numpy", (2, 3)),
}


class Echo:
    """Answers what it is asked; a label comes back as a certainty."""

    inputs = EVERYTHING
    outputs = EVERYTHING | {"label": ("categorical", ())}  # the classes tell its shape
    classes = {"label": ["a", "b", "c"]}  # noqa: RUF012

    def predict(self, rows: list[dict]) -> list[dict]:
        answers = []
        for row in rows:
            label = row["label"] and {name: float(name == row["label"]) for name in "abc"}
            answers.append({**row, "label": label})
        return answers


class Scripted:
    """Does what the text of its first row says."""

    inputs = {"text": ("text", ())}  # noqa: RUF012
    outputs = {"value": ("numeric", ())}  # noqa: RUF012

    def __init__(self) -> None:
        self.called, self.go_on = threading.Event(), threading.Event()
        self.predict_threads: set[str] = set()

    def predict(self, rows: list[dict]) -> list[dict]:
        self.predict_threads.add(threading.current_thread().name)
        match rows[0]["text"]:
            case "raise":
                raise RuntimeError("out of order")
            case "refuse":
                raise RowError(1, "text", "says nothing")
            case "short":
                return []
            case "nan":
                return [{"value": float("nan")}, {"value": np.float32("inf")}]
            case "wait":
                self.called.set()
                self.go_on.wait(60)
        return [{"value": position} for position, _ in enumerate(rows)]


class StandInClient:
    """Another client of the Deployment API, which trusts nothing that it is told."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url, self.session = url, session
        answer = session.get(urljoin(url, "openapi.json"))
        answer.raise_for_status()
        document = answer.json()
        self.new_style = "x-peltarion-tensorjson" in document["paths"][PATH]
        self.tensor_json = document["paths"][PATH].get("x-peltarion-tensorjson", False)
        schemas = document["components"]["schemas"]
        self.inputs = self._specs(schemas["input-row"]["properties"])
        self.outputs = self._specs(schemas["output-row-batch"]["properties"]["rows"]["properties"])

    def _specs(self, properties: dict[str, Any]) -> dict[str, dict[str, Any]]:
        specs = {
            name: (body if self.new_style else body["extensions"])["x-peltarion"]
            for name, body in properties.items()
        }
        assert all(spec["shape"] and min(spec["shape"]) > 0 for spec in specs.values())
        return specs

    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        sent = [{n: self._encode(row[n], spec) for n, spec in self.inputs.items()} for row in rows]
        answer = self.session.post(self.url, json={"rows": sent})
        answer.raise_for_status()
        assert answer.headers["Content-Type"].startswith("application/json")
        received = answer.json()["rows"]
        assert len(received) == len(rows)
        assert all(set(row) == set(self.outputs) for row in received)
        return [{n: self._decode(row[n], self.outputs[n]) for n in row} for row in received]

    def _is_tensor(self, spec: dict[str, Any]) -> bool:
        return spec["type"] == "numeric" and spec["shape"] != [1]

    def _encode(self, value: Any, spec: dict[str, Any]) -> Any:
        if isinstance(value, Image.Image):
            buffer = io.BytesIO()
            value.save(buffer, format=value.format)
            return _data_uri(f"image/{value.format.lower()}", buffer.getvalue())
        if isinstance(value, np.ndarray):
            if self._is_tensor(spec) and self.tensor_json:
                return {"shape": value.shape, "data": value.ravel().tolist()}
            buffer = io.BytesIO()
            np.save(buffer, value.astype(np.float32))
            return _data_uri("application/x.peltarion.npy", buffer.getvalue())
        return value

    def _decode(self, value: Any, spec: dict[str, Any]) -> Any:
        if value is None:
            return None
        match spec["type"]:
            case "numeric" if self._is_tensor(spec) and self.tensor_json:
                assert value["shape"] == spec["shape"]
                return np.array(value["data"], dtype=np.float32).reshape(value["shape"])
            case "numpy" | "numeric" if self._is_tensor(spec) or spec["type"] == "numpy":
                media_type, data = _parts(value)
                assert media_type == "application/x.peltarion.npy"
                array = np.load(io.BytesIO(data))
                assert array.dtype == np.float32
                assert list(array.shape) == spec["shape"]
                return array
            case "image":
                media_type, data = _parts(value)
                image = Image.open(io.BytesIO(data))
                image.load()
                assert media_type == f"image/{image.format.lower()}"
                assert image.format in {"PNG", "JPEG"}
                return image
            case "categorical":
                assert len(value) == spec["shape"][0]
                assert set(value) == set(spec["classes"])
                return value
            case "text":
                assert type(value) is str
            case "numeric" | "binary":
                assert type(value) in {int, float}
        return value


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _parts(uri: str) -> tuple[str, bytes]:
    head, data = uri.split(",", 1)
    scheme, media_type = head.split(":", 1)
    assert scheme == "data"
    assert media_type.endswith(";base64")
    return media_type.removesuffix(";base64"), base64.b64decode(data, validate=True)


def _picture(file_format: str, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(7).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format=file_format)
    return Image.open(buffer)


def _row(**values: Any) -> dict[str, Any]:
    row = {
        "number": 1.5,
        "probability": 0.25,
        "label": "b",
        "text": 'Grüße, "世界" \u2028\n',
        "png": _picture("PNG"),
        "jpeg": _picture("JPEG", "L"),
        "vector": np.float32([0.1, -2, 1e-30, 3e38]),
        "tensor": np.arange(6, dtype=np.float32).reshape(2, 3) / 3,
        "file": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    }
    return row | values


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session that bears the token."""
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        yield session


@pytest.fixture
def scripted(session: requests.Session) -> Iterator[tuple[str, Scripted]]:
    """A deployment of the scripted model: its address and the model."""
    assert session.headers
    model = Scripted()
    with running_deployment(model, token=TOKEN) as url:
        yield url, model
        model.go_on.set()


@pytest.mark.parametrize(
    "options",
    [{"tensor_json": True}, {"tensor_json": False}, {"old_style": True}],
    ids=["tensor-json", "npy", "old-style"],
)
def test_every_type_goes_there_and_back(options: dict[str, bool], session: requests.Session):
    """Whatever the specification's style, each type comes back as it was sent."""
    with running_deployment(Echo(), token=TOKEN, **options) as url:
        client = StandInClient(url, session)
        assert client.new_style == ("old_style" not in options)
        assert client.tensor_json == options.get("tensor_json", False)
        assert {n: (s["type"], s["shape"]) for n, s in client.inputs.items()} == {
            name: (dtype, list(shape) or [1]) for name, (dtype, shape) in EVERYTHING.items()
        }
        assert client.outputs["label"]["shape"] == [3]
        row = _row()
        nulls = dict.fromkeys(EVERYTHING)
        first, second, third = client.predict([row, nulls, _row(number=-7, label={"c": 1})])
        assert second == nulls
        assert (third["number"], third["label"]) == (-7, {"a": 0, "b": 0, "c": 1})
        assert first["label"] == {"a": 0, "b": 1, "c": 0}
        for name in ("number", "probability", "text"):
            assert first[name] == row[name]
        for name in ("vector", "tensor", "file"):
            np.testing.assert_array_equal(first[name], row[name])
        np.testing.assert_array_equal(np.asarray(first["png"]), np.asarray(row["png"]))
        assert (first["png"].format, first["jpeg"].format) == ("PNG", "JPEG")
        assert (first["jpeg"].mode, first["jpeg"].size) == ("L", (6, 5))


def test_the_demo_models_answer():
    """The three demo models serve their own data over HTTP, without a token."""
    penguins = penguins_table().slice(0, 20).to_pylist()
    digits = digits_table().slice(0, 20)
    pictures = [{"picture": Image.open(io.BytesIO(png))} for png in digits["picture"].to_pylist()]
    pixels = digits["pixels"].combine_chunks().to_numpy_ndarray()
    with requests.Session() as session:
        with running_deployment("penguins") as url:
            assert url.endswith("/deployment/penguins/forward")
            answers = StandInClient(url, session).predict(penguins)
            assert {max(a["species"], key=a["species"].get) for a in answers} == {"Adelie"}
        with running_deployment("digits") as url:
            from_pictures = StandInClient(url, session).predict(pictures)
        with running_deployment("digits-array", tensor_json=False) as url:
            from_pixels = StandInClient(url, session).predict([{"pixels": p} for p in pixels])
    truth = digits["digit"].to_pylist()
    for answers in (from_pictures, from_pixels):
        right = [
            max(a["digit"], key=a["digit"].get) == t for a, t in zip(answers, truth, strict=True)
        ]
        assert sum(right) >= 18
    assert {a["embedding"].shape for a in from_pixels} == {(16,)}
    assert {a["reconstruction"].size for a in from_pixels} == {(32, 32)}


def _error(answer: requests.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert set(body) == {"errorCode", "errorMessage"}
    return answer.status_code, body["errorCode"], body["errorMessage"]


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"{TOKEN}"])
def test_a_wrong_token_is_refused(scripted: tuple[str, Scripted], header: str | None):
    """Without the right token neither the specification nor a prediction is given."""
    url, model = scripted
    headers = {} if header is None else {"Authorization": header}
    for answer in (
        requests.get(urljoin(url, "openapi.json"), headers=headers),
        requests.post(url, json={"rows": [{"text": "x"}]}, headers=headers),
    ):
        status, code, message = _error(answer)
        assert (status, code) == (401, "UNAUTHORIZED")
        assert TOKEN not in message
    assert not model.predict_threads


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "no JSON"),
        (b"\xff", 400, "no JSON"),
        (b"[" * 100_000, 400, "no JSON"),
        (b"[]", 400, "rows"),
        (b"{}", 400, "rows"),
        (b'{"rows": {}}', 400, "rows"),
        (b'{"rows": [1]}', 422, "rows[0]"),
        (b'{"rows": [{"text": "a"}, {}]}', 422, "rows[1], feature 'text': missing"),
        (b'{"rows": [{"text": "a"}, {"text": 1}]}', 422, "rows[1], feature 'text'"),
        (b'{"rows": [{"text": "refuse"}, {"text": ""}]}', 422, "rows[1], feature 'text': says"),
        (b'{"rows": [{"text": "raise"}]}', 500, "RuntimeError: out of order"),
        (b'{"rows": [{"text": "short"}]}', 500, "0 rows for 1"),
    ],
)
def test_each_fault_has_its_status(
    scripted: tuple[str, Scripted],
    session: requests.Session,
    caplog: pytest.LogCaptureFixture,
    body: bytes,
    status: int,
    words: str,
):
    """A bad body is 400, a bad row 422 with its place, a model that fails 500; then it goes on."""
    url, _ = scripted
    with caplog.at_level(logging.ERROR):
        answer = session.post(url, data=body)
    assert _error(answer)[0] == status
    assert words in _error(answer)[2]
    assert bool(caplog.records) == ("RuntimeError" in words)  # the traceback, for the modeller
    assert session.post(url, json={"rows": [{"text": "a"}]}).json() == {"rows": [{"value": 0}]}


def test_what_is_not_there_is_said_in_json(
    scripted: tuple[str, Scripted], session: requests.Session
):
    """Another deployment, another path and another method are 404 and 405."""
    url, _ = scripted
    other = session.post(url.replace("/model/", "/other/"), json={"rows": []})
    assert _error(other)[:2] == (404, "NOT_FOUND")
    assert "'other'" in _error(other)[2]
    assert "model" in _error(other)[2]
    assert _error(session.post(f"{url}/more", json={}))[0] == 404
    assert _error(session.get(url))[0] == 405


def test_nan_goes_both_ways(scripted: tuple[str, Scripted], session: requests.Session):
    """A bare NaN in a request is read; NaN and infinity of a model go out as null."""
    url, _ = scripted
    answer = session.post(url, data=b'{"rows": [{"text": "nan", "more": NaN}, {"text": "nan"}]}')
    assert answer.json() == {"rows": [{"value": None}, {"value": None}]}
    assert b"NaN" not in answer.content


def test_no_rows_are_answered_with_no_rows(
    scripted: tuple[str, Scripted], session: requests.Session
):
    """An empty request is answered without asking the model."""
    url, model = scripted
    assert session.post(url, json={"rows": []}).json() == {"rows": []}
    assert not model.predict_threads


def test_packed_bodies_are_read(
    scripted: tuple[str, Scripted], session: requests.Session, caplog: pytest.LogCaptureFixture
):
    """A gzip body is unpacked; one that is none is a 400, and no fault of the server's."""
    url, _ = scripted
    body = json.dumps({"rows": [{"text": "a"}] * 1000}).encode()
    packed = {"Content-Encoding": "gzip"}
    answer = session.post(url, data=gzip.compress(body), headers=packed)
    assert len(answer.json()["rows"]) == 1000
    assert _error(session.post(url, data=body, headers=packed))[:2] == (400, "INVALID_BODY")
    assert session.post(url, data=body).status_code == 200
    assert caplog.records == []


def _pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // 1000):
        yield b" " * 1000


@pytest.mark.parametrize("how", ["told", "chunked", "packed"])
def test_a_body_that_is_too_large_is_refused(session: requests.Session, how: str):
    """Above the limit a body is 413, also where its size shows only in reading."""
    body = b" " * 400_000
    with running_deployment(Scripted(), token=TOKEN, max_body_bytes=100_000) as url:
        match how:
            case "told":
                answer = session.post(url, data=body)
            case "chunked":
                answer = session.post(url, data=_pieces(400_000))
            case _:
                packed = {"Content-Encoding": "gzip"}
                answer = session.post(url, data=gzip.compress(body), headers=packed)
        assert _error(answer) == (413, "TOO_LARGE", "the body is larger than 100000 bytes")


def test_a_body_that_says_it_is_too_large_is_not_waited_for():
    """The size in the header alone is enough for a 413, before any of the body has come."""
    with running_deployment(Scripted()) as url:
        address = urlsplit(url)
        request = f"POST {address.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {2**40}\r\n\r\n"
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(request.encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_slow_model_holds_up_no_other_request(
    scripted: tuple[str, Scripted], session: requests.Session
):
    """While one prediction is under way, others and the specification are answered."""
    url, model = scripted
    answers: list[Any] = []

    def slow() -> None:
        with requests.Session() as other:
            other.headers.update(session.headers)
            answers.append(other.post(url, json={"rows": [{"text": "wait"}]}).json())

    thread = threading.Thread(target=slow)
    thread.start()
    assert model.called.wait(20)
    assert session.post(url, json={"rows": [{"text": "a"}]}).status_code == 200
    assert session.get(urljoin(url, "openapi.json")).status_code == 200
    assert answers == []
    model.go_on.set()
    thread.join()
    assert answers == [{"rows": [{"value": 0}]}]


def test_it_stops_at_once_with_a_prediction_under_way(session: requests.Session):
    """Neither an idle connection nor a prediction under way holds up the end."""
    model = Scripted()

    def slow(url: str) -> None:
        with requests.Session() as other, suppress(requests.ConnectionError):
            other.headers.update(session.headers)
            other.post(url, json={"rows": [{"text": "wait"}]})

    with running_deployment(model, token=TOKEN) as url:
        session.post(url, json={"rows": [{"text": "a"}]})  # its connection stays open
        thread = threading.Thread(target=slow, args=[url])
        thread.start()
        assert model.called.wait(20)
        started = time.monotonic()
    # The prediction would go on for a minute.
    assert time.monotonic() - started < 10
    thread.join()
    model.go_on.set()
    with pytest.raises(requests.ConnectionError):
        session.post(url, json={"rows": []})


def test_an_error_in_the_body_ends_the_deployment_too():
    """Leaving by an exception stops the server, and the exception goes on."""
    with pytest.raises(KeyError), running_deployment("digits") as url:  # noqa: PT012
        address = url
        raise KeyError
    with pytest.raises(requests.ConnectionError):
        requests.get(urljoin(address, "openapi.json"))


async def test_serve_tells_its_addresses_and_runs_until_cancelled():
    """Each model's address is told once it accepts requests; cancelling ends it at once."""
    urls: list[str] = []
    ready = asyncio.Event()

    def on_ready(url: str) -> None:
        urls.append(url)
        if len(urls) == 2:
            ready.set()

    models = {"one": Scripted(), "two": Scripted()}
    task = asyncio.create_task(
        serve(models, host="127.0.0.1", port=0, token=None, on_ready=on_ready)
    )
    await asyncio.wait_for(ready.wait(), 20)
    assert [url.rsplit("/", 2)[1] for url in urls] == ["one", "two"]
    for url in urls:
        answer = await asyncio.to_thread(requests.post, url, json={"rows": [{"text": "a"}]})
        assert answer.json() == {"rows": [{"value": 0}]}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    with pytest.raises(requests.ConnectionError):
        await asyncio.to_thread(requests.post, urls[0], json={"rows": []})


async def _serve(**options: Any) -> None:
    settings = {"host": "127.0.0.1", "port": 0, "token": None, **options}
    told: list[str] = []
    await asyncio.wait_for(serve({"m": Scripted()}, on_ready=told.append, **settings), 20)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.com"])
async def test_off_loopback_it_refuses_to_start_without_a_token(host: str):
    """Where other machines can reach it, a deployment needs a token."""
    with pytest.raises(UsageError, match="refuses to start without BATCHSCORE_TOKEN"):
        await _serve(host=host)


async def test_with_a_token_it_serves_every_interface():
    """With a token it listens on every interface, and asks for it."""
    told: asyncio.Queue[str] = asyncio.Queue()
    options: dict[str, Any] = {"host": "0.0.0.0", "port": 0, "token": TOKEN}
    task = asyncio.create_task(serve({"m": Scripted()}, on_ready=told.put_nowait, **options))
    url = (await asyncio.wait_for(told.get(), 20)).replace("0.0.0.0", "127.0.0.1")
    answer = await asyncio.to_thread(requests.get, urljoin(url, "openapi.json"))
    assert answer.status_code == 401
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_port_in_use_is_named():
    """A taken port is a usage error that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} on 127.0.0.1 is in use"):
            await _serve(port=port)


async def test_an_address_that_is_not_ours_is_told():
    """A host of another machine is a usage error that names it."""
    with pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1"):
        await _serve(host="192.0.2.1", token=TOKEN)


def test_a_name_that_is_no_model_is_told_before_anything_starts():
    """An unknown name is a usage error, and no thread is left behind."""
    threads = threading.active_count()
    with pytest.raises(UsageError, match="penguins"), running_deployment("pinguins"):
        pass
    assert threading.active_count() == threads
