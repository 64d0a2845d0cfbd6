"""What protocols have in common whose servers tell nothing of their model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batchscore.protocols.base import BaseProtocol, Response
from batchscore.protocols.predictions import PredictionDecoder
from batchscore.schema import ModelSignature

if TYPE_CHECKING:
    from batchscore.config import Probs
    from batchscore.protocols.predictions import Answers


class UntoldProtocol(BaseProtocol):
    """The inputs are declared by the user, the outputs are learned from the first answer."""

    signature = ModelSignature((), ())
    # These servers answer 500 to bad rows too.
    doubtful = frozenset({500})
    error_keys = ("error_code", "code", "error", "message", "msg", "detail")

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def parse_metadata(self, _response: Response) -> ModelSignature:
        """That there is an answer says that the model is there; it tells no more."""
        return self.signature

    def decoder(self, signature: ModelSignature, *, probs: Probs) -> PredictionDecoder:
        """A decoder for answers of a complete signature."""
        return PredictionDecoder(signature.outputs, self._answers, probs)

    def learn(self, signature: ModelSignature, response: Response, num_rows: int) -> ModelSignature:
        """The signature with the outputs that an answer shows."""
        return replace(signature, outputs=self._answers.learn(response, num_rows))
