"""Uploads to S3, and what speaks its language: MinIO, Ceph, SeaweedFS, R2."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from batchscore.errors import OutputError, UsageError
from batchscore.stores.s3_session import session
from batchscore.stores.uploads import (
    NOTE_KEY,
    OccupiedError,
    Pending,
    Placed,
    packed,
    run_ended,
    unpacked,
    upload_failed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from batchscore.stores.options import StoreOptions
    from batchscore.stores.uploads import Noting
    from batchscore.stores.uri import StoreURI

PART_BYTES = 16 * 2**20
_MAX_PARTS = 10_000
_AT_ONCE = 4
_ATTEMPTS = 6
_LOOK_EVERY_S = 0.1
_CONFLICT_WAITS_S = (0.2, 0.5, 1.0, 2.0)
_REFUSALS = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "the store refuses to let it be written ({said})",
    "403": "the store refuses to let it be written ({said})",
    "InvalidAccessKeyId": "the store does not know the access key",
    "SignatureDoesNotMatch": "the store does not take the secret key",
    "ExpiredToken": "the login has expired; log in again",
    "InvalidToken": "the login is not valid; log in again",
}
_GONE = {"404", "NoSuchKey", "NoSuchUpload", "NotFound"}
# 409: another write to the key is under way, or deleted it meanwhile.
_CONFLICT = {"ConditionalRequestConflict", "409", "OperationAborted"}
_UNCONDITIONAL = {"NotImplemented", "501"}


@lru_cache(maxsize=8)
def s3_client(options: StoreOptions) -> Any:
    """The client of botocore.

    Raises:
        UsageError: it is not installed, or settings of AWS are wrong.
    """
    found = session()
    if found is None:
        raise UsageError("writing to s3:// needs botocore; pip install 'batchscore[s3]'")
    from botocore.config import Config  # noqa: PLC0415 (an extra)
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 (an extra)

    def made(addressing: str) -> Any:
        return found.create_client(
            "s3",
            endpoint_url=options.endpoint,
            region_name=options.region,
            config=Config(
                connect_timeout=10,
                read_timeout=60,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                max_pool_connections=_AT_ONCE,
                s3={"addressing_style": addressing},
                # The newer sums that AWS likes travel in a form that other stores do not read;
                # each piece has its MD5, which all of them check.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    try:
        client = made("auto")
        if "amazonaws.com" in client.meta.endpoint_url:
            return client
        # A store of one's own seldom has a host name for each bucket.
        return made("path")
    except (BotoCoreError, ValueError) as error:
        raise UsageError(f"--store-endpoint, --store-region or AWS_PROFILE: {error}") from None


class S3Uploads:
    """``Uploads`` as S3 multipart uploads, which are nowhere until they are completed.

    What fits one piece is put at once: there are stores that check the condition and commit in one
    step for a put, and in two for an upload of many pieces.
    """

    put_bytes = PART_BYTES

    def __init__(self, options: StoreOptions) -> None:
        self._client = s3_client(options)

    def check(self, uri: StoreURI) -> None:
        """See ``Uploads``; an upload is begun and ended."""
        with _refused_early(uri):
            begun = self._client.create_multipart_upload(**_place(uri))
            self._abandon(uri, begun["UploadId"])

    def placed(self, uri: StoreURI) -> Placed | None:
        """See ``Uploads``."""
        with _refused_early(uri):
            return self._placed(uri)

    def _placed(self, uri: StoreURI) -> Placed | None:
        try:
            found = self._client.head_object(**_place(uri))
        except self._client.exceptions.ClientError as error:
            if _is_one_of(error, _GONE):
                return None
            raise
        modified_ns = int(found["LastModified"].timestamp() * 1e9)
        note = unpacked(found.get("Metadata", {}).get(NOTE_KEY))
        return Placed(int(found["ContentLength"]), modified_ns, note)

    def begin(
        self,
        uri: StoreURI,
        path: Path,
        note: Mapping[str, Any],
        journal: Noting,
        stopped: Callable[[], bool],
    ) -> Pending:
        """See ``Uploads``."""
        if stopped():
            raise run_ended(uri)
        with _failing(uri):
            place = _place(uri)
            metadata = {NOTE_KEY: packed(note)}
            begun = self._client.create_multipart_upload(**place, Metadata=metadata)
            upload_id = str(begun["UploadId"])
            try:
                journal.began(uri.key, upload_id)
                etags = self._upload_parts(uri, path, upload_id, stopped)
            except BaseException:
                # What cannot be reached now is in the journal, for the next run.
                with suppress(OutputError):
                    self.abandon(uri, upload_id)
                    journal.ended(uri.key)
                raise
        return Pending(uri, path, note, path.stat().st_size, upload_id, tuple(etags))

    def _upload_parts(
        self, uri: StoreURI, path: Path, upload_id: str, stopped: Callable[[], bool]
    ) -> list[str]:
        size = path.stat().st_size
        step = max(PART_BYTES, -(-size // _MAX_PARTS))

        def upload(start: int) -> str:
            if stopped():
                raise run_ended(uri)
            with path.open("rb") as file:
                file.seek(start)
                data = file.read(step)
            done = self._client.upload_part(
                **_place(uri),
                UploadId=upload_id,
                PartNumber=start // step + 1,
                Body=data,
                ContentMD5=base64.b64encode(
                    hashlib.md5(data, usedforsecurity=False).digest()
                ).decode(),
            )
            return str(done["ETag"])

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="batchscore-upload") as pool:
            futures = [pool.submit(upload, start) for start in range(0, max(size, 1), step)]
            try:
                while wait(futures, _LOOK_EVERY_S, FIRST_EXCEPTION).not_done:
                    if stopped():
                        raise run_ended(uri)
                    if any(future.done() and future.exception() for future in futures):
                        break
                return [future.result() for future in futures if future.done()]
            except BaseException:
                # At once, for the process may have no more than a moment; once more when no piece
                # can arrive any more, which would else stay for ever.
                with suppress(OutputError):
                    self.abandon(uri, upload_id)
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def complete(self, pending: Pending, *, if_absent: bool) -> None:
        """See ``Uploads``."""
        parts = [
            {"PartNumber": number, "ETag": etag} for number, etag in enumerate(pending.etags, 1)
        ]

        def complete(condition: Mapping[str, str]) -> None:
            self._client.complete_multipart_upload(
                **_place(pending.uri),
                UploadId=pending.upload_id,
                MultipartUpload={"Parts": parts},
                **condition,
            )

        self._conditionally(pending.uri, pending.note, complete, if_absent=if_absent)
        if if_absent:
            self._check_own(pending.uri, pending.note)

    def _check_own(self, uri: StoreURI, note: Mapping[str, Any]) -> None:
        """Where a store checked the condition a moment before it committed, the last one counts."""
        with _failing(uri):
            there = self._placed(uri)
        if there is not None and there.note.get("token") != note.get("token"):
            raise OccupiedError

    def put(self, uri: StoreURI, data: bytes, note: Mapping[str, Any], *, if_absent: bool) -> None:
        """See ``Uploads``."""

        def put(condition: Mapping[str, str]) -> None:
            metadata = {NOTE_KEY: packed(note)}
            self._client.put_object(**_place(uri), Body=data, Metadata=metadata, **condition)

        self._conditionally(uri, note, put, if_absent=if_absent)

    def _conditionally(
        self,
        uri: StoreURI,
        note: Mapping[str, Any],
        write: Callable[[Mapping[str, str]], None],
        *,
        if_absent: bool,
    ) -> None:
        """Write where nothing is, or whatever is there; what was done already is done.

        An answer can be lost on the way. Then the next try is told that the place is taken, or
        the upload gone, and the note of what is there tells whether by this very write.
        """
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with _failing(uri):
            for wait_s in (*_CONFLICT_WAITS_S, None):
                try:
                    write(condition)
                    return
                except self._client.exceptions.ClientError as error:
                    if condition and _is_one_of(error, _UNCONDITIONAL):
                        # A store without conditions: the nearest to one is to look just before.
                        condition = {}
                        if self._placed(uri) is not None:
                            raise OccupiedError from error
                    elif self._is_done(uri, note, error, if_absent=if_absent):
                        return
                    elif wait_s is None or not _is_one_of(error, _CONFLICT):
                        raise
                    else:
                        time.sleep(wait_s)

    def _is_done(
        self, uri: StoreURI, note: Mapping[str, Any], error: Exception, *, if_absent: bool
    ) -> bool:
        if not _is_one_of(error, {"PreconditionFailed", "412", *_CONFLICT, *_GONE}):
            return False
        there = self._placed(uri)
        if there is not None and there.note.get("token") == note.get("token"):
            return True
        if there is not None and if_absent:
            raise OccupiedError from error
        return False

    def abandon(self, uri: StoreURI, upload_id: str) -> None:
        """See ``Uploads``."""
        with _failing(uri):
            self._abandon(uri, upload_id)

    def _abandon(self, uri: StoreURI, upload_id: str) -> None:
        try:
            self._client.abort_multipart_upload(**_place(uri), UploadId=upload_id)
        except self._client.exceptions.ClientError as error:
            # A try before may have done it, and its answer be lost.
            if not _is_one_of(error, _GONE):
                raise

    def delete(self, uri: StoreURI) -> None:
        """See ``Uploads``."""
        with _failing(uri):
            self._client.delete_object(**_place(uri))


def _place(uri: StoreURI) -> dict[str, str]:
    return {"Bucket": uri.bucket, "Key": uri.key}


def _names(error: Any) -> tuple[str, str]:
    """What the store calls that which is wrong, and the status of its answer."""
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    return str(error.response.get("Error", {}).get("Code", "")), status


def _is_one_of(error: Any, names: Collection[str]) -> bool:
    return any(name in names for name in _names(error))


def _reason(error: Any) -> tuple[str, bool]:
    """Why a request failed, in words, and whether the store refused it."""
    if not hasattr(error, "response"):
        # Addresses are shown without what follows the key.
        return re.sub(r'\?[^\s"]*', "", str(error).splitlines()[0]), False
    names = _names(error)
    text = str(error.response.get("Error", {}).get("Message") or "").strip().splitlines()
    said = text[0] if text else names[0] or names[1]
    for name in names:
        if name in _REFUSALS:
            return _REFUSALS[name].format(said=said), True
    return f"the store says {names[0] or names[1]}: {said}", False


@contextmanager
def _refused_early(uri: StoreURI) -> Iterator[None]:
    """Before a row is scored: a refusal is for the user to mend, the rest may pass."""
    from botocore.exceptions import (  # noqa: PLC0415 (an extra)
        BotoCoreError,
        ClientError,
        NoCredentialsError,
    )

    try:
        yield
    except NoCredentialsError:
        raise UsageError(
            f"--output: {uri}: no login for S3 is found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        ) from None
    except (BotoCoreError, ClientError) as error:
        reason, is_refused = _reason(error)
        if is_refused:
            raise UsageError(f"--output: {uri}: {reason}") from error
        raise OutputError(
            f"cannot write {uri}: {reason}; nothing was sent: try the same command again later"
        ) from error


@contextmanager
def _failing(uri: StoreURI) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 (an extra)

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise upload_failed(uri, _reason(error)[0]) from error
