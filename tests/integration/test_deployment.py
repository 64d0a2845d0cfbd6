"""The Python objects: a deployment, and tables in memory."""

import asyncio
import io

import numpy as np
import pyarrow as pa
import pytest
from faultserver import CLASSIFIER, LINEAR, FaultServer, echo, faults
from PIL import Image

import batchscore
from batchscore.errors import (
    InputError,
    PredictionError,
    RefusedError,
    UnreachableError,
    UsageError,
)


def test_specs_and_predictions_are_those_of_the_original_client():
    """Features are told, and rows go in and out as dicts."""
    with FaultServer(*LINEAR, token="t") as server:
        with batchscore.Deployment(server.url, "t") as deployment:
            assert [str(spec) for spec in deployment.feature_specs_in] == ["x: numeric"]
            assert [spec.name for spec in deployment.feature_specs_out] == ["y"]
            assert deployment.predict(x=2) == {"y": 5.0}
            assert deployment.predict_many([{"x": n} for n in range(5)]) == [
                {"y": 2.0 * n + 1} for n in range(5)
            ]
            assert deployment.predict_many([]) == []


def test_it_works_without_a_with_block_and_closes_once():
    """Made, used, closed; closing twice is harmless."""
    with FaultServer(*LINEAR) as server:
        deployment = batchscore.Deployment(server.url)
        assert deployment.predict(x=None) == {"y": 1.0}
        deployment.close()
        deployment.close()


def test_many_rows_come_back_in_order_from_concurrent_requests():
    """Thousands of rows in concurrent batches keep their order."""
    with FaultServer(*LINEAR, delay_s=lambda info: (info.index * 7 % 5) / 200) as server:
        with batchscore.Deployment(server.url, batch_size=50, concurrency=6) as deployment:
            predictions = deployment.predict_many({"x": n} for n in range(3000))
        assert server.max_in_flight > 1
        assert server.max_in_flight <= 6
    assert [row["y"] for row in predictions] == [2.0 * n + 1 for n in range(3000)]


def test_predict_lazy_reads_ahead_only_a_little():
    """A generator of rows is drawn from as predictions are taken."""
    drawn = []

    def rows():
        for n in range(10_000):
            drawn.append(n)
            yield {"x": n}

    with FaultServer(*LINEAR) as server:
        with batchscore.Deployment(server.url, batch_size=10, concurrency=2) as deployment:
            lazy = deployment.predict_lazy(rows())
            assert [next(lazy)["y"] for _ in range(15)] == [2.0 * n + 1 for n in range(15)]
            assert len(drawn) <= 60
            lazy.close()


def test_classes_come_out_as_probabilities():
    """A category is a mapping from class to probability, as the original client gives it."""
    with FaultServer(*CLASSIFIER) as server:
        with batchscore.Deployment(server.url, batch_size=2) as deployment:
            assert deployment.predict_many([{"x": n} for n in range(5)])[4] == {
                "animal": {"bird": 0.25, "cat": 0.5, "dog": 0.25}
            }


def test_pictures_and_arrays_are_python_objects():
    """PIL images and NumPy arrays go in and come out."""
    model = echo({"picture": ("image", [2, 2, 3]), "a": ("numeric", [2, 2]), "t": ("text", [])})
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    array = np.arange(4, dtype=np.float32).reshape(2, 2)
    with FaultServer(*model) as server, batchscore.Deployment(server.url) as deployment:
        found = deployment.predict(picture=image, a=array, t="hello")
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        jpeg = Image.open(io.BytesIO(buffer.getvalue()))
        again = deployment.predict(picture=jpeg, a=array.astype(np.float64), t=None)
    assert np.array_equal(np.asarray(found["picture"]), np.asarray(image))
    assert found["a"].dtype == np.float32
    assert np.array_equal(found["a"], array)
    assert found["t"] == "hello"
    assert again["picture"].format == "JPEG"
    assert again["t"] is None


def test_bad_rows_are_told_by_position_and_feature():
    """A missing feature and a value of a wrong type are named before anything is sent."""
    with FaultServer(*LINEAR) as server, batchscore.Deployment(server.url) as deployment:
        with pytest.raises(InputError, match="row 1 has no feature 'x'"):
            deployment.predict_many([{"x": 1}, {"X": 2}])
        with pytest.raises(InputError, match="x"):
            deployment.predict(x=object())
        rows = [{"x": n} for n in range(300)]
        with pytest.raises(InputError, match="row 300 has no feature 'x'"):
            deployment.predict_many([*rows, {}])
        with pytest.raises(InputError, match="row 0 is no mapping .* but str"):
            deployment.predict_many({"x": 1})
        assert server.request_count == 300 // 128


def test_rows_that_are_refused_raise_with_the_servers_words():
    """A refused batch raises PredictionError; its failures are told by row."""
    script = faults.always(faults.status(422, "no such animal"))
    with FaultServer(*LINEAR, script=script) as server:
        with batchscore.Deployment(server.url) as deployment:
            with pytest.raises(PredictionError, match="no such animal") as caught:
                deployment.predict_many([{"x": 1}, {"x": 2}])
    assert sorted(caught.value.failures) == [0, 1]
    assert caught.value.failures[0].code == "http_422"


def test_rows_that_fail_are_told_by_their_place_among_all():
    """The position of a failed row counts from the first row given, not from its request's."""
    with FaultServer(*CLASSIFIER, script=faults.refuse_rows(lambda row: row["x"] == 7)) as server:
        with batchscore.Deployment(server.url, batch_size=2) as deployment:
            with pytest.raises(PredictionError, match="row 7 was not scored") as caught:
                deployment.predict_many([{"x": n} for n in range(10)])
    assert sorted(caught.value.failures) == [7]


@pytest.mark.parametrize("option", ["batch_size", "concurrency", "max_attempts"])
@pytest.mark.parametrize("value", [0, -1, "many"])
def test_sizes_that_would_send_no_row_are_refused(option, value):
    """No size or bound makes a deployment return fewer predictions than rows."""
    with pytest.raises(UsageError, match=option):
        batchscore.Deployment("http://127.0.0.1:1/x", **{option: value})


async def test_a_deployment_that_is_not_open_says_so():
    """Before and after its with block a deployment is a usage error, and leaves no warning."""
    with FaultServer(*LINEAR) as server:
        with batchscore.Deployment(server.url) as deployment:
            pass
        with pytest.raises(UsageError, match="closed"):
            deployment.predict(x=1)
        later = batchscore.AsyncDeployment(server.url)
        for _ in range(2):
            with pytest.raises(UsageError, match="not open"):
                later.feature_specs_in  # noqa: B018
            with pytest.raises(UsageError, match="not open"):
                await later.predict(x=1)
            async with later:
                assert await later.predict(x=1) == {"y": 3.0}


def test_a_deployment_that_is_not_there_or_refuses_raises_at_once():
    """Connecting tells what is wrong, and leaves no thread behind."""
    with FaultServer(*LINEAR, token="right") as server:
        with pytest.raises(RefusedError, match="401"):
            batchscore.Deployment(server.url, "wrong")
        server.go_away()
        with pytest.raises(UnreachableError):
            batchscore.Deployment(server.url, "right")
    with pytest.raises(UsageError):
        batchscore.Deployment("not an address")
    with pytest.raises(UsageError, match="tiemout"):
        batchscore.Deployment("http://127.0.0.1:1/x", tiemout=3)


async def test_the_async_deployment_is_the_same_with_await():
    """AsyncDeployment predicts with await, and many at once."""
    with FaultServer(*LINEAR, delay_s=0.01) as server:
        async with batchscore.AsyncDeployment(server.url, lambda: "token") as deployment:
            assert [spec.name for spec in deployment.feature_specs_in] == ["x"]
            assert await deployment.predict(x=1) == {"y": 3.0}
            several = await asyncio.gather(*[deployment.predict(x=n) for n in range(10)])
            assert [row["y"] for row in several] == [2.0 * n + 1 for n in range(10)]
            lazy = [row async for row in deployment.predict_lazy({"x": n} for n in range(300))]
            assert lazy == await deployment.predict_many([{"x": n} for n in range(300)])
        assert server.requests[0].headers["authorization"] == "Bearer token"


@pytest.mark.parametrize("kind", ["pyarrow", "batches", "polars", "chunked"])
def test_anything_that_exports_an_arrow_stream_can_be_scored(kind):
    """PyArrow tables, record batch readers and Polars frames give a PyArrow table."""
    import polars as pl

    table = pa.table({"id": ["a", "b", "c"], "x": [1, 2, 3]})
    data = {
        "pyarrow": lambda: table,
        "batches": lambda: table.to_reader(max_chunksize=1),
        "polars": lambda: pl.DataFrame({"id": ["a", "b", "c"], "x": [1, 2, 3]}),
        "chunked": lambda: pa.concat_tables([table.slice(0, 1), table.slice(1)]),
    }[kind]()
    with FaultServer(*LINEAR) as server:
        out = batchscore.score_table(data, url=server.url, token="t")
    assert isinstance(out, pa.Table)
    assert out["id"].cast(pa.string()).to_pylist() == ["a", "b", "c"]
    assert out["predicted_y"].to_pylist() == [3.0, 5.0, 7.0]
    assert out["prediction_error"].null_count == 3


def test_options_of_files_mean_nothing_for_a_table():
    """An option that would be ignored is refused."""
    for options in ({"source_column": "f"}, {"resume": True}, {"type": {"x": "int"}}):
        with pytest.raises(UsageError, match=next(iter(options))):
            batchscore.score_table(pa.table({"x": [1]}), url="http://127.0.0.1:1/x", **options)


def test_what_is_no_table_is_refused():
    """A list is no table: the error says what is."""
    with FaultServer(*LINEAR) as server, pytest.raises(UsageError, match="Arrow"):
        batchscore.score_table([{"x": 1}], url=server.url)
