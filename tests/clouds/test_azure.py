"""Azure's blob store, as its emulator Azurite has it: read through PyArrow, written in one put."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from clouds.install import azurite
from faultserver import LINEAR, FaultServer
from obstore.store import AzureStore
from stores.servers import free_ports, running

import batchscore
from batchscore.errors import UsageError

ACCOUNT = "devstoreaccount1"
# Azurite's well-known key, which is in its documentation.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    (port,) = free_ports(1)
    command = [
        str(azurite()), "--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", str(port),
        "--skipApiVersionCheck", "--disableTelemetry",
    ]  # fmt: skip
    with running(command, tmp_path_factory.mktemp("azurite") / "log", port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def container(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AzureStore:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", endpoint)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    host = endpoint.removeprefix("http://")
    files = pa.fs.AzureFileSystem(
        ACCOUNT, account_key=KEY, blob_storage_scheme="http", dfs_storage_scheme="http",
        blob_storage_authority=host, dfs_storage_authority=host,
    )  # fmt: skip
    name = f"c{uuid.uuid4().hex}"
    files.create_dir(name)
    store = AzureStore(
        name,
        config={"account_name": ACCOUNT, "account_key": KEY, "endpoint": f"{endpoint}/{ACCOUNT}"},
        client_options={"allow_http": True},
    )
    for day in (1, 2):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"x": [float(n) for n in range(1000)]}), buffer)
        obstore.put(store, f"in/day={day}/a.parquet", buffer.getvalue())
    return store


def name_of(store: AzureStore) -> str:
    return str(store.config["container_name"])


def names(store: AzureStore, prefix: str) -> list[str]:
    return sorted(str(item["path"]) for item in obstore.list(store, prefix).collect())


@pytest.mark.parametrize("out", ["abfs://bucket/out.parquet", "abfs://bucket/parts/"])
@pytest.mark.parametrize("source", ["abfs://bucket/in/", "az://bucket/in/*/a.parquet"])
def test_a_job_from_azure_to_azure(container: AzureStore, source: str, out: str) -> None:
    """Read, written, accepted by --resume, refused, replaced, as everywhere."""
    name = name_of(container)
    source, out = source.replace("bucket", name), out.replace("bucket", name)
    with FaultServer(*LINEAR) as server:
        options: dict[str, Any] = {"url": server.url, "batch_size": 100}
        assert batchscore.score(source, out, **options).rows_scored == 2000
        sent = len(server.requests)
        assert batchscore.score(source, out, resume=True, **options).rows_resumed == 2000
        assert len(server.requests) == sent
        with pytest.raises(UsageError, match="exists; --overwrite replaces it"):
            batchscore.score(source, out, **options)
        assert batchscore.score(source, out, overwrite=True, limit=5, **options).rows_scored == 5
    key = "out.parquet" if out.endswith(".parquet") else "parts/part-00000.parquet"
    table = pq.read_table(io.BytesIO(obstore.get(container, key).bytes().to_bytes()))
    assert table["day"].to_pylist() == ["1"] * 5
    if out.endswith("/"):
        assert names(container, "parts") == ["parts/_SUCCESS", "parts/part-00000.parquet"]


def test_an_object_that_appears_meanwhile_is_not_replaced(
    container: AzureStore, tmp_path: Path
) -> None:
    """The put is conditional: what another wrote while the job ran stays."""

    def appear(_: object) -> None:
        obstore.put(container, "late.csv", b"theirs")

    source = tmp_path / "in.csv"
    source.write_text("x\n1\n")
    with FaultServer(*LINEAR, script=appear) as server:
        with pytest.raises(UsageError, match="appeared while the job ran"):
            batchscore.score(source, f"abfs://{name_of(container)}/late.csv", url=server.url)
    assert obstore.get(container, "late.csv").bytes() == b"theirs"


def test_a_container_that_is_not_there_is_told_before_a_row_is_sent(
    container: AzureStore, tmp_path: Path
) -> None:
    """Exit code 2, nothing sent."""
    del container
    source = tmp_path / "in.csv"
    source.write_text("x\n1\n")
    with FaultServer(*LINEAR) as server:
        with pytest.raises(UsageError, match="there is no such bucket or container"):
            batchscore.score(source, "abfs://nowhere/o.csv", url=server.url)
        assert server.requests == []
