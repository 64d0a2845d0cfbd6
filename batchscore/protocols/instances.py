"""``{"instances": [...]}`` in, ``{"predictions": [...]}`` out: KServe v1 and its many kin.

TensorFlow Serving and Vertex AI speak it too, and with other keys (``[instances]`` of a config
file) so do LitServe, BentoML and most endpoints that are written by hand. See
``docs/protocols.md``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

from batchscore.config import InstancesTable
from batchscore.protocols.base import Request
from batchscore.protocols.predictions import Answers
from batchscore.protocols.typed_rows import JsonColumns, JsonRows, TypedEncoder
from batchscore.protocols.untold import UntoldProtocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from batchscore.codecs import ImageFolder
    from batchscore.config import EndpointConfig
    from batchscore.schema import ModelSignature

# Where KServe and TensorFlow Serving tell whether a model is ready: the address without its verb.
_MODEL = re.compile(r"(.*/v1/models/[^/]+(?:/(?:versions|labels)/[^/]+)?):predict")


class InstancesProtocol(UntoldProtocol):
    """The ``instances`` protocol."""

    name = "instances"
    url_ending = ":predict"

    def __init__(self, config: EndpointConfig | None) -> None:
        self._table = InstancesTable() if config is None else config.instances
        key = self._table.response_key
        super().__init__(
            Answers(
                path=tuple(key.split(".")) if key else (),
                classes=() if config is None else config.classes,
                is_one=self._table.single,
            )
        )

    def metadata_request(self, url: str) -> Request | None:
        """Whether the model is ready, where the address is one of KServe or TensorFlow Serving."""
        parts = urlsplit(url)
        found = _MODEL.fullmatch(parts.path)
        if found is None:
            return None
        address = urlunsplit(parts._replace(path=found[1]))
        return Request("GET", address, headers={"Accept": "application/json"})

    def encoder(
        self,
        signature: ModelSignature,
        columns: Sequence[pa.Field],
        folder: ImageFolder | None,
    ) -> TypedEncoder:
        """An encoder for these columns; see ``WireProtocol.encoder``."""
        names = tuple(spec.name for spec in signature.inputs)
        form, is_single = self._form(names), self._table.single
        return TypedEncoder(signature.inputs, columns, folder, form, is_single=is_single)

    def _form(self, names: tuple[str, ...]) -> JsonRows | JsonColumns:
        table = self._table
        head, tail = _around(table)
        if table.columnar:
            # TensorFlow Serving takes the list alone where there is one input.
            keys = () if len(names) == 1 and table.row != "object" else names
            return JsonColumns(head, tail, keys, table.image)
        of_names: Literal["object", "cell"] = "cell" if len(names) == 1 else "object"
        row = of_names if table.row == "auto" else table.row
        if not table.single:
            head, tail = head + b"[", b"]" + tail
        return JsonRows(head, tail, names, row, table.image)


def _around(table: InstancesTable) -> tuple[bytes, bytes]:
    """What stands before and behind the rows in a body."""
    if not table.request_key:
        return b"", b""
    head = b"{" + msgspec.json.encode(table.request_key) + b":"
    extra = msgspec.json.encode(table.extra)[1:-1]
    return head, (b"," + extra if extra else b"") + b"}"
