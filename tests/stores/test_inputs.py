"""Input from a store: every format, folders, globs, pictures, and a store that fails."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer, Model
from integration.conftest import read_arrow
from stores.broken_store import DROP, Asked, BrokenStore
from stores.conftest import Store

import batchscore
from batchscore.errors import StoreError, UsageError
from batchscore.readers import ReadOptions, open_reader

NUMBERS = [0.5 * n for n in range(3_000)]


def csv_text() -> bytes:
    return b"id,x\n" + b"".join(b"row %d,%r\n" % (n, x) for n, x in enumerate(NUMBERS))


def arrow_bytes(*, is_stream: bool) -> bytes:
    table = pa.table({"id": [f"row {n}" for n in range(len(NUMBERS))], "x": NUMBERS})
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_stream if is_stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return sink.getvalue().to_pybytes()


def parquet_bytes() -> bytes:
    table = pa.table({"id": [f"row {n}" for n in range(len(NUMBERS))], "x": NUMBERS})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=700)
    return sink.getvalue()


def json_lines() -> bytes:
    return b"".join(
        json.dumps({"id": f"row {n}", "x": x}).encode() + b"\n" for n, x in enumerate(NUMBERS)
    )


FILES = {
    "in.csv": csv_text,
    "in.csv.gz": lambda: gzip.compress(csv_text()),
    "in.csv.bz2": lambda: bz2.compress(csv_text()),
    "in.csv.zst": lambda: pa.compress(csv_text(), codec="zstd", asbytes=True),
    "in.tsv": lambda: csv_text().replace(b",", b"\t"),
    "in.arrow": lambda: arrow_bytes(is_stream=False),
    "in.arrows": lambda: arrow_bytes(is_stream=True),
    "in.parquet": parquet_bytes,
    "in.jsonl": json_lines,
    "in.jsonl.gz": lambda: gzip.compress(json_lines()),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_read_as_from_a_file(store: Store, tmp_path: Path, name: str) -> None:
    """An object of each format gives the output that a local file of the same bytes gives."""
    data = FILES[name]()
    (tmp_path / name).write_bytes(data)
    store.put(name, data)
    with FaultServer(*LINEAR) as server:
        for source, out in ((tmp_path / name, "local"), (store.uri(name), "remote")):
            report = batchscore.score(source, tmp_path / f"{out}.arrow", url=server.url)
            assert report.rows_scored == len(NUMBERS)
    remote, local = read_arrow(tmp_path / "remote.arrow"), read_arrow(tmp_path / "local.arrow")
    assert remote.equals(local)
    assert remote.schema.equals(local.schema)


def rows_of(*inputs: str, **options: Any) -> list[dict[str, Any]]:
    with open_reader(inputs, ReadOptions(hive=True, **options)) as opened:
        return [row for batch in opened.reader.batches() for row in batch.columns.to_pylist()]


def sources_of(*inputs: str, bucket: str) -> list[str]:
    rows = rows_of(*inputs, source_column="from")
    return [row["from"].removeprefix(f"s3://{bucket}/") for row in rows]


def test_folders_and_globs_mean_the_same_as_on_a_disk(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same names, hidden ones skipped, in byte order of the key."""
    names = [
        "d/b.csv", "d/a/z.csv", "d/a-b.csv", "d/a/y/x.csv", "d/é.csv", "d/B.csv", "d/one.csv.gz",
        "d/_no.csv", "d/.no.csv", "d/_no/x.csv", "e/a.csv", "d/[odd].csv", "dd/x.csv",
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        text = b"x\n1\n"
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        store.put(name, path.read_bytes())
    store.put("d/empty-folder/", b"")
    for typed in ("d", "d/", "d/*.csv", "d/**/*.csv", "*/a.csv", "d/[ab]*.csv", "d/?.csv",
                  "d/**", "*/_no.csv", "d/a", "d/[!a]*.csv", "d/[odd].csv"):  # fmt: skip
        wanted = [row["from"] for row in rows_of(typed, source_column="from")]
        assert sources_of(store.uri(typed), bucket=store.bucket) == wanted, typed
    assert sources_of(store.uri(""), bucket=store.bucket)[:2] == ["d/B.csv", "d/[odd].csv"]


def test_what_is_not_there_is_told(store: Store) -> None:
    """No object, no bucket, nothing visible, no login for it: one line that names the address."""
    store.put("hidden/_SUCCESS", b"")
    store.put("x.csv", b"x\n1\n")
    for typed, message in [
        (store.uri("no.csv"), f"{store.uri('no.csv')}: no such object"),
        (store.uri("no/"), "no such object"),
        (store.uri("hidden/"), "the folder holds no input; names that begin with _"),
        (store.uri("*.parquet"), "no object matches"),
        ("s3://no-such-bucket-here/x.csv", "s3://no-such-bucket-here/x.csv: "),
        ("s3://me:secret@bucket/x.csv", "s3://bucket/x.csv: an address takes no user part"),
        (store.uri("x.csv?access_key=secret"), "takes no options"),
        ("nosuch://host/x.csv", "nosuch://host/x.csv: nosuch:// cannot be read: "),
    ]:
        with pytest.raises(UsageError) as caught:
            rows_of(typed)
        assert message in str(caught.value)
        assert "secret" not in str(caught.value).replace("access_key=secret", "SHOWN")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", [500, 503, DROP])
@pytest.mark.parametrize("name", ["in.csv", "in.parquet", "in.arrow"])
def test_reading_goes_on_where_a_store_fails_now_and_then(
    store: Store, name: str, fault: str | int
) -> None:
    """One in three requests fails, and every row is read once."""
    store.put(name, FILES[name]())
    chance = random.Random(7)

    def sometimes(_: Asked) -> str | int | None:
        return fault if chance.random() < 1 / 3 else None

    with BrokenStore(store.endpoint, sometimes) as broken:
        options = ReadOptions.of(config(store.uri(name), broken.endpoint))
        with open_reader([store.uri(name)], options) as opened:
            found = [row for b in opened.reader.batches() for row in b.columns.to_pylist()]
    assert [float(row["x"]) for row in found] == NUMBERS


def config(source: str, endpoint: str) -> Any:
    values = {"inputs": source, "output": "o.csv", "url": "http://x", "store_endpoint": endpoint}
    return batchscore.config.configured(batchscore.config.ScoreConfig, values)


def test_a_store_that_fails_for_good_in_the_middle_is_no_damaged_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ends with 75, its rows are kept, and --resume goes on where it was."""
    monkeypatch.setattr("batchscore.stores.remote_file._ATTEMPTS", 1)
    source = store.put("in.parquet", parquet_bytes())
    out = tmp_path / "out.arrow"
    seen = Counter[str]()

    def fault(asked: Asked) -> int | None:
        seen["get"] += asked.is_get
        return 500 if seen["get"] > 6 and asked.is_get else None

    with FaultServer(*LINEAR) as server:
        options = {"url": server.url, "batch_size": 100}
        with BrokenStore(store.endpoint, fault) as broken, pytest.raises(StoreError) as caught:
            batchscore.score(source, out, store_endpoint=broken.endpoint, **options)
        assert caught.value.exit_code == 75
        assert "--resume goes on" in str(caught.value)
        report = batchscore.score(source, out, resume=True, **options)
    assert 0 < report.rows_resumed < len(NUMBERS)
    assert report.rows_scored == len(NUMBERS)
    assert read_arrow(out)["x"].to_pylist() == NUMBERS


def test_an_input_that_was_written_to_since_is_another_one(store: Store, tmp_path: Path) -> None:
    """--resume tells by size and time of an object, without reading it, that it is another."""
    store.put("in.csv", b"x\n1\n2\n")
    out = tmp_path / "out.arrow"
    with FaultServer(*LINEAR) as server:
        batchscore.score(store.uri("in.csv"), out, url=server.url)
        batchscore.score(store.uri("in.csv"), out, url=server.url, resume=True)
        store.put("in.csv", b"x\n1\n2\n3\n")
        with pytest.raises(UsageError, match=f"the input differs \\({store.uri('in.csv')} has an"):
            batchscore.score(store.uri("in.csv"), out, url=server.url, resume=True)


PICTURE = Model(
    {"picture": ("image", [4, 4, 3])},
    {"y": ("numeric", [1])},
    lambda rows: [{"y": float(len(row["picture"]))} for row in rows],
)


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (4, 4), (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_folder_of_pictures_is_a_table(store: Store, tmp_path: Path) -> None:
    """A row a picture, with its address in the column path."""
    for shade in range(3):
        store.put(f"pictures/{shade}.png", png(shade))
    with FaultServer(*PICTURE) as server:
        report = batchscore.score(store.uri("pictures/"), tmp_path / "out.arrow", url=server.url)
    assert report.rows_scored == 3
    paths = read_arrow(tmp_path / "out.arrow")["path"].to_pylist()
    assert paths == [store.uri(f"pictures/{shade}.png") for shade in range(3)]


def test_paths_are_read_below_the_image_root_and_never_outside(
    store: Store, tmp_path: Path
) -> None:
    """Keys and whole addresses below the root are read; what leads out of it fails its row."""
    store.put("root/a.png", png(1))
    store.put("root/deep/b.png", png(2))
    store.put("outside.png", png(3))
    store.put("root-like/c.png", png(4))
    good = ["a.png", "deep/b.png", "deep/../a.png", store.uri("root/a.png")]
    bad = ["../outside.png", store.uri("outside.png"), "/etc/passwd", "../root-like/c.png",
           store.uri("root/../outside.png"), store.uri("root-like/c.png"), "no.png",
           "s3://other-bucket/root/a.png"]  # fmt: skip
    table = tmp_path / "in.parquet"
    pq.write_table(pa.table({"picture": good + bad}), table)
    with FaultServer(*PICTURE) as server:
        for root in (store.uri("root"), store.uri("root/")):
            out = tmp_path / "out.arrow"
            batchscore.score(table, out, url=server.url, image_root=root, overwrite=True)
            errors = read_arrow(out)["prediction_error"].to_pylist()
            assert errors[: len(good)] == [None] * len(good)
            assert all(error.startswith("invalid_input: ") for error in errors[len(good) :])
            told = [e for e in errors[len(good) :] if "outside the image root" in e]
            assert len(told) == 7
            assert "there is no such object" in errors[len(good) + 6]


def test_a_table_in_a_store_has_its_pictures_beside_it(store: Store, tmp_path: Path) -> None:
    """Without --image-root, paths start from the folder of the table."""
    store.put("set/pictures/a.png", png(1))
    store.put_table("set/in.parquet", {"picture": ["pictures/a.png"]})
    with FaultServer(*PICTURE) as server:
        report = batchscore.score(store.uri("set/in.parquet"), tmp_path / "out.csv", url=server.url)
    assert report.rows_scored == 1


def test_an_endpoint_is_given_by_option_or_by_the_clouds_own_variable(
    store: Store, tmp_path: Path, run: Any
) -> None:
    """--store-endpoint counts before AWS_ENDPOINT_URL; both work for reading and writing."""
    source, out = store.put("in.csv", b"x\n1\n"), store.uri("out.csv")
    with FaultServer(*LINEAR) as server:
        words = ("score", source, "--url", server.url, "-o", out, "-q", "--overwrite")
        assert run(*words, AWS_ENDPOINT_URL=store.endpoint).code == 0
        wrong = "http://127.0.0.1:1"
        option = ("--store-endpoint", store.endpoint)
        assert run(*words, *option, AWS_ENDPOINT_URL=wrong).code == 0
        done = run(*words, "--store-endpoint", "http://k:secret@127.0.0.1:1")
        assert done.code == 2
        assert "secret" not in done.err
        assert "it takes no login" in done.err


def test_nothing_secret_is_in_report_metadata_or_output(store: Store, tmp_path: Path) -> None:
    """Keys of the login are nowhere, and the options that say where a store is are."""
    source = store.put("in.csv", b"x\n1\n")
    with FaultServer(*LINEAR) as server:
        report = batchscore.score(
            source, store.uri("out.arrow"), url=server.url, store_endpoint=store.endpoint,
            report=tmp_path / "r.json",
        )  # fmt: skip
    written = (tmp_path / "r.json").read_bytes() + store.get("out.arrow")
    head = store.client.head_object(Bucket=store.bucket, Key="out.arrow")
    written += json.dumps(head["Metadata"]).encode()
    assert b"AKIA" not in written
    assert b"wJalr" not in written
    assert report.options["store_endpoint"] == store.endpoint
    assert report.output == store.uri("out.arrow")


def test_a_report_stays_on_this_computer(run: Any, store: Store) -> None:
    """--report with an address is refused, clearly."""
    done = run(
        "score", "x.csv", "--url", "http://x", "-o", "o.csv", "--report", store.uri("r.json")
    )
    assert done.code == 2
    assert "a report is written to a local file, not to an address" in done.err
