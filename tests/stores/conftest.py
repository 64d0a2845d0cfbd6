"""A real S3 server for every test here, with a bucket of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.exceptions
import botocore.session
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.config import Config
from stores.servers import LOGIN, s3_server

from batchscore.stores.s3 import s3_client
from batchscore.stores.s3_session import session as aws_session


@dataclass(frozen=True)
class Store:
    """One bucket of a real server."""

    endpoint: str
    bucket: str
    client: Any

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def put(self, key: str, data: bytes) -> str:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)
        return self.uri(key)

    def put_table(self, key: str, columns: dict[str, Any]) -> str:
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns), buffer)
        return self.put(key, buffer.getvalue())

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def table(self, key: str) -> pa.Table:
        return pq.read_table(io.BytesIO(self.get(key)))

    def objects(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [item["Key"] for item in found]

    def uploads(self) -> list[str]:
        """The keys of multipart uploads that were begun and not ended."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [item["Key"] for item in found]


def client_of(endpoint: str) -> Any:
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=LOGIN["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=LOGIN["AWS_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that runs as long as the tests."""
    with s3_server(tmp_path_factory.mktemp("server")) as endpoint:
        yield endpoint


def _created(client: Any, bucket: str) -> None:
    """Make a bucket; a server that has just started may not be able to yet."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key="probe", Body=b"x")
            client.delete_object(Bucket=bucket, Key="probe")
        except botocore.exceptions.ClientError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


@pytest.fixture
def store(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty bucket, and the environment of somebody who may write to it."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "BATCHSCORE_")):
            monkeypatch.delenv(name)
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for cached in (s3_client, aws_session):
        cached.cache_clear()
    client = client_of(s3_endpoint)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    _created(client, bucket)
    yield Store(s3_endpoint, bucket, client)
    for cached in (s3_client, aws_session):
        cached.cache_clear()


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "batchscore", *map(str, words)]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Any:
    """Run the command as users do, in an empty folder."""

    def run(*words: object, **variables: str) -> Ended:
        done = subprocess.run(
            command(*words),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100"} | variables,
            timeout=90,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run
