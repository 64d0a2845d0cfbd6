"""What a job may take: memory that does not grow, whatever comes in from files and servers."""

import csv
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer, Model, faults
from faultserver.faults import Fault, Reply
from faultserver.memory import measured
from integration.conftest import read_arrow

import batchscore
from batchscore.errors import BatchscoreError

ROOT = Path(__file__).parents[2]
MIB = 2**20


def scored(folder, url, source, *words):
    """A job in a process of its own, with its peak of memory."""
    command = [sys.executable, "-m", "batchscore", "score", source, "--url", url, "-o", "out.arrow"]
    return measured([*command, "--overwrite", "-q", "--max-attempts", "1", *words], folder)


def errors_of(folder):
    return read_arrow(folder / "out.arrow")["prediction_error"].to_pylist()


@pytest.mark.parametrize("hung", ["no", "yes"])
def test_memory_does_not_grow_with_the_rows(tmp_path, hung):
    """Five times the rows take as much memory, also while the window waits for a hung request."""
    figures = tmp_path / "figures.json"
    subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "memory.py", "--rows", "300000", "1500000",
         "--hung", hung, "--timeout", "4s", "--json", figures],
        check=True, capture_output=True,
    )  # fmt: skip
    small, large = json.loads(figures.read_text())
    assert (small["rows_scored"], large["rows_scored"]) == (300_000, 1_500_000)
    assert large["peak_bytes"] < 1.15 * small["peak_bytes"]


def packed(unit, unpacked_bytes, encoding):
    """An answer that holds a unit again and again, as it travels."""
    packer = zlib.compressobj(9, zlib.DEFLATED, {"gzip": 31, "deflate": 15}[encoding])
    block = unit * (MIB // len(unit))
    pieces = [packer.compress(b'{"rows":[')]
    pieces += [packer.compress(block) for _ in range(unpacked_bytes // len(block))]
    return b"".join([*pieces, packer.compress(unit[:-1] + b"]}"), packer.flush()])


@pytest.mark.parametrize(
    ("status", "encoding", "unit", "unpacked_bytes", "why"),
    [
        (
            200,
            "gzip",
            b" " * 64,
            512 * MIB,
            "bad_response: the answer is larger than 67108864 bytes",
        ),
        (500, "deflate", b" " * 64, 512 * MIB, "bad_response: the answer is larger than 67108864"),
        (200, "deflate", b"{},", 48 * MIB, "bad_response: the answer has more than 250008 values"),
        (500, "gzip", b"[],", 48 * MIB, 'http_500: {"rows":[[],[],'),
    ],
    ids=["bytes", "bytes of an error", "values", "values of an error"],
)
def test_an_answer_that_unpacks_to_a_lot_is_refused(
    tmp_path, status, encoding, unit, unpacked_bytes, why
):
    """Neither half a gigabyte of text nor millions of values take much more than the bound."""
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "in.parquet")
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    bomb = Fault("bomb", Reply(status, packed(unit, unpacked_bytes, encoding), headers))
    assert len(bomb.reply.body) < 2 * MIB
    with FaultServer(*LINEAR) as server:
        plain = scored(tmp_path, server.url, "in.parquet")
        server.script = faults.always(bomb)
        found = scored(tmp_path, server.url, "in.parquet", "--max-response-bytes", "64MiB")
    assert (plain.returncode, found.returncode) == (0, 3), found.errors
    (error,) = errors_of(tmp_path)
    assert error.startswith(why)
    assert found.peak_bytes < plain.peak_bytes + 3.5 * 64 * MIB


def png(width, height, row_bytes, depth, kind):
    """A whole PNG of zeros, of a kind that takes few bytes."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer = zlib.compressobj(9)
    data = b"".join([packer.compress(bytes(row_bytes + 1)) for _ in range(height)])
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(6)) if kind == 3 else b""
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), palette,
            chunk(b"IDAT", data + packer.flush()), chunk(b"IEND", b""),
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def huge_pictures():
    """A grey, a palette and a coloured picture of 900 million pixels, 8 million the last."""
    return {
        "grey.png": png(30_000, 30_000, 3750, 1, 0),
        "palette.png": png(30_000, 30_000, 3750, 1, 3),
        "colour.png": png(400_000_000, 1, 0, 8, 2),
    }


def test_pictures_of_enormous_dimensions_are_not_unpacked(tmp_path, huge_pictures):
    """Such files fail their rows by the number of their pixels; memory stays where it was."""
    small = png(2, 2, 2, 8, 0)
    for folder, pictures in (("small", {"a.png": small}), ("huge", huge_pictures)):
        (tmp_path / folder).mkdir()
        for name, data in pictures.items():
            (tmp_path / folder / name).write_bytes(data)
    model = Model({"x": ("image", [28, 28, 1])}, {"y": ("numeric", [1])}, lambda rows: [
        {"y": 1.0} for _ in rows
    ])  # fmt: skip
    with FaultServer(*model) as server:
        plain = scored(tmp_path, server.url, "small")
        found = scored(tmp_path, server.url, "huge")
        assert server.rows_seen == 1
    assert (plain.returncode, found.returncode) == (0, 3), found.errors
    assert [text.partition(": ")[0] for text in errors_of(tmp_path)] == ["invalid_input"] * 3
    assert all("pixels" in text for text in errors_of(tmp_path))
    assert found.peak_bytes < plain.peak_bytes + 32 * MIB


def test_a_predicted_picture_is_kept_unopened_and_refused_where_it_is_opened(
    tmp_path, huge_pictures
):
    """In a file it is the bytes that came; ``predict`` gives no picture of so many pixels."""
    import base64

    data = huge_pictures["palette.png"]
    uri = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    small = f"data:image/png;base64,{base64.b64encode(png(2, 2, 2, 8, 0)).decode()}"
    answers = {1.0: small, 2.0: uri}
    model = Model({"x": ("numeric", [1])}, {"y": ("image", [28, 28, 1])}, lambda rows: [
        {"y": answers[row["x"]]} for row in rows
    ])  # fmt: skip
    for value in answers:
        pq.write_table(pa.table({"x": [value]}), tmp_path / f"{value}.parquet")
    with FaultServer(*model) as server:
        plain = scored(tmp_path, server.url, "1.0.parquet")
        found = scored(tmp_path, server.url, "2.0.parquet")
        with batchscore.Deployment(server.url) as deployment:
            assert deployment.predict(x=1.0)["y"].size == (2, 2)
            with pytest.raises(BatchscoreError, match="more than 89478485 pixels"):
                deployment.predict(x=2.0)
    assert (plain.returncode, found.returncode) == (0, 0), found.errors
    assert read_arrow(tmp_path / "out.arrow")["predicted_y"].to_pylist() == [data]
    assert found.peak_bytes < plain.peak_bytes + 32 * MIB


def test_no_cell_makes_a_job_read_a_file_outside_its_folder(tmp_path, huge_pictures):
    """Up, absolute, by links, as URLs, with NUL: nothing of it is sent, and no link is opened."""
    secret, inside = tmp_path / "secret.png", tmp_path / "in"
    (inside / "deep").mkdir(parents=True)
    secret.write_bytes(png(3, 3, 3, 8, 0))
    (inside / "good.png").write_bytes(png(2, 2, 2, 8, 0))
    (inside / "link.png").symlink_to(secret)
    (inside / "door").symlink_to(tmp_path)
    (inside / "deep" / "chain").symlink_to("../door")
    (inside / "in-twin.png").symlink_to("../in-twin/x.png")
    (tmp_path / "in-twin").mkdir()
    (tmp_path / "in-twin" / "x.png").write_bytes(png(3, 3, 3, 8, 0))
    cells = [
        "../secret.png", str(secret), f"//{secret}", "deep/../../secret.png", "link.png",
        "door/secret.png", "deep/chain/secret.png", "door/in/../secret.png", "in-twin.png",
        f"file://{secret}", f"FILE:{secret}", "file:../secret.png", "http://127.0.0.1:1/secret.png",
        "..\\secret.png", "%2e%2e/secret.png", "../secret.png\0.png", "~/secret.png",
        "/proc/self/environ", "/dev/zero", "/dev/stdin", "$HOME/secret.png", "|cat /etc/passwd",
    ]  # fmt: skip
    pq.write_table(pa.table({"x": [*cells, "good.png", "deep/../good.png"]}), inside / "t.parquet")
    model = Model({"x": ("image", [28, 28, 1])}, {"y": ("numeric", [1])}, lambda rows: [
        {"y": 1.0} for _ in rows
    ])  # fmt: skip
    with FaultServer(*model) as server:
        assert scored(tmp_path, server.url, str(inside / "t.parquet")).returncode == 3
        assert server.rows_seen == 2
        failed = errors_of(tmp_path)
        assert all(text.startswith("invalid_input: ") for text in failed[: len(cells)])
        assert failed[len(cells) :] == [None, None]
        # The root may be told, and is then what counts.
        root = str(tmp_path)
        scored(tmp_path, server.url, str(inside / "t.parquet"), "--image-root", root)
        assert errors_of(tmp_path)[1] is None
        assert "outside the image root" in errors_of(tmp_path)[0]


def test_formulas_and_control_characters_pass_through_csv_in_and_out(tmp_path):
    """A cell is the same text in the request, in CSV and in JSON Lines, whatever it begins with."""
    cells = [
        "=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", "\r=1", "\n=1", "'=1",
        "\x01\x02\x1f", "\x7f", "a\x00b", "\x1b[31mred", "\ufeffbom", "\u202eright to left",
        "\u2028line", "a\r\nb", '"', '""', ",", " leading", "trailing ", "\\N", "NULL", "nan",
    ]  # fmt: skip
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([["x"], *([cell] for cell in cells)])
    model = Model({"x": ("text", [1])}, {"y": ("text", [1])}, lambda rows: [
        {"y": row["x"]} for row in rows
    ])  # fmt: skip
    with FaultServer(*model) as server:
        for name in ("out.csv", "out.jsonl"):
            batchscore.score(tmp_path / "in.csv", tmp_path / name, url=server.url)
            sent = [row["x"] for request in server.requests for row in request.rows]
            assert sent == cells
            server.requests.clear()
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, strict=True))
    assert rows == [["x", "predicted_y", "prediction_error"], *([c, c, ""] for c in cells)]
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["predicted_y"] for line in lines] == cells
