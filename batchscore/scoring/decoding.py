"""Reading answers, and learning from the first one what the specification leaves open."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from batchscore.errors import DecodeError
from batchscore.scoring.pipeline import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from batchscore.config import Probs
    from batchscore.protocols.base import AnswerDecoder, Response, WireProtocol
    from batchscore.schema import ModelSignature

Predictions = tuple[pa.Array, ...]
A = TypeVar("A")
R = TypeVar("R")


class Decoding:
    """Decodes the answers of a job.

    Until the signature is complete (the classes of a category may be known only from an answer)
    requests go out one at a time, in input order; nothing is sent twice to learn them.

    Attributes:
        signature: what is known of the model by now.
        decoder: None until that is enough.
    """

    def __init__(self, protocol: WireProtocol, signature: ModelSignature, probs: Probs) -> None:
        self._protocol, self._probs = protocol, probs
        self.signature = signature
        self.decoder: AnswerDecoder | None = None
        if protocol.is_complete(signature):
            self.decoder = protocol.decoder(signature, probs=probs)

    def in_order(self) -> bool:
        """Whether requests must still go out one at a time."""
        return self.decoder is None

    @property
    def schema(self) -> pa.Schema:
        """The prediction columns, once a row was scored."""
        assert self.decoder is not None  # noqa: S101 - a scored row has made it
        return pa.schema(self.decoder.fields)

    def read(self, response: Response, num_rows: int) -> Predictions:
        """The predictions of an answer; the first one may complete the signature.

        Raises:
            DecodeError: it is no answer for so many rows, or the first one and completes nothing.
        """
        if self.decoder is not None:
            return self.decoder.decode(response, num_rows)
        # Alone in flight, so no other answer can be read meanwhile.
        learned = self._protocol.learn(self.signature, response, num_rows)
        if not self._protocol.is_complete(learned):
            raise DecodeError(
                "the first answer is null throughout, which does not show its type or classes"
            )
        decoder = self._protocol.decoder(learned, probs=self._probs)
        predictions = decoder.decode(response, num_rows)
        self.signature, self.decoder = learned, decoder
        return predictions

    async def run_all(
        self, score: Callable[[A], Coroutine[None, None, R]], parts: Sequence[A]
    ) -> list[R]:
        """The results of all parts: one after another while learning, else side by side."""
        results: list[R] = []
        while len(results) < len(parts) and (self.in_order() or len(parts) == 1):
            results.append(await score(parts[len(results)]))
        if len(results) < len(parts):
            results += await gather([score(part) for part in parts[len(results) :]])
        return results
