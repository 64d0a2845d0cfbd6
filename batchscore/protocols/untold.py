"""What protocols have in common whose servers tell nothing of their model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from batchscore.errors import DecodeError
from batchscore.protocols.base import Request, Response, Treatment
from batchscore.protocols.predictions import PredictionDecoder
from batchscore.protocols.untrusted import beginning, parse_json
from batchscore.schema import ModelSignature

if TYPE_CHECKING:
    from collections.abc import Collection

    from batchscore.config import Probs
    from batchscore.protocols.base import Body
    from batchscore.protocols.predictions import Answers

_WORDS = ("error_code", "code", "error", "message", "msg", "detail")


class UntoldProtocol:
    """The inputs are declared by the user, the outputs are learned from the first answer.

    Attributes:
        url_ending: what the address ends in.
        signature: what is known of the deployment before it is asked: nothing.
        retried: statuses that a moment's trouble has, most likely; those from 500 on are too.
        refused: statuses that refuse rows.
        doubtful: statuses that may be either: these servers answer 500 to bad rows too.
    """

    url_ending = ""
    signature: ModelSignature | None = ModelSignature((), ())
    retried: Collection[int] = frozenset({408, 425, 429})
    refused: Collection[int] = frozenset({400, 413, 422})
    doubtful: Collection[int] = frozenset({500})

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def parse_metadata(self, _response: Response) -> ModelSignature:
        """That there is an answer says that the model is there; it tells no more."""
        return ModelSignature((), ())

    def score_request(self, url: str, body: Body) -> Request:
        """The request that scores an encoded body."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        return Request("POST", url, body, headers)

    def decoder(self, signature: ModelSignature, *, probs: Probs) -> PredictionDecoder:
        """A decoder for answers of a complete signature."""
        return PredictionDecoder(signature.outputs, self._answers, probs)

    def is_complete(self, signature: ModelSignature) -> bool:
        """Whether an answer has shown what the outputs are."""
        return bool(signature.outputs)

    def learn(self, signature: ModelSignature, response: Response, num_rows: int) -> ModelSignature:
        """The signature with the outputs that an answer shows."""
        return replace(signature, outputs=self._answers.learn(response, num_rows))

    def treatment(self, status: int) -> Treatment:
        """By ``refused``, ``doubtful`` and ``retried``."""
        if status in self.refused:
            return Treatment.ISOLATE
        if status in self.doubtful:
            return Treatment.HALVE
        is_retried = status >= 500 or status in self.retried
        return Treatment.RETRY if is_retried else Treatment.STOP

    def error_text(self, response: Response) -> str:
        """The server's own words, wherever they stand in its JSON."""
        try:
            found = _words(parse_json(response.body))
        except DecodeError:
            found = ""
        text = found or beginning(response.body)
        return text or f"the server answered {response.status} without a word"


def _words(document: Any, depth: int = 4) -> str:
    """What an error of JSON says: texts at the usual keys, those of a list one after another."""
    if isinstance(document, str):
        return document
    if depth and isinstance(document, list):
        return "; ".join(filter(None, (_words(item, depth - 1) for item in document)))
    if not (depth and isinstance(document, Mapping)):
        return ""
    found = [_words(document[key], depth - 1) for key in _WORDS if key in document]
    return ": ".join(filter(None, found))
