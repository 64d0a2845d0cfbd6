"""What the processes of a job say to each other.

They are all ours and of one version, so the messages are pickled; the rows that go with ``Score``
and ``Scored`` are one Arrow record batch behind the message, which is never pickled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchscore.batches import RowFailure
    from batchscore.config import ScoreConfig
    from batchscore.metrics import Traffic
    from batchscore.schema import ModelSignature
    from batchscore.scoring.features import Features


# To a worker.


@dataclass(frozen=True)
class Setup:
    """The first message: all that a worker has to know of the job.

    Attributes:
        config: the options, without a token.
        number, of: which part of the limits is this worker's.
        signature: of the deployment, complete.
        fingerprint: of its specification.
        token: as it was read last.
        features: what is sent of the rows; these columns will come.
        log_level: what is worth telling.
    """

    config: ScoreConfig
    number: int
    of: int
    signature: ModelSignature
    fingerprint: str
    token: str | None = field(repr=False)
    features: Features
    log_level: int


@dataclass(frozen=True, slots=True)
class Score:
    """Score the rows of a chunk; ``failures`` are those that could not be read."""

    number: int
    failures: Mapping[int, RowFailure]


@dataclass(frozen=True, slots=True)
class Hold:
    """Send nothing new; to be answered with ``Held``."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """Send again."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn of this suspect has come."""

    number: int
    is_away: bool


@dataclass(frozen=True, slots=True)
class Token:
    """The answer to a ``TokenWanted``."""

    number: int
    token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answered:
    """When a good answer came last, to any process."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Leave:
    """All is done."""


# From a worker.


@dataclass(frozen=True, slots=True)
class Ready:
    """Rows may come; so many requests may be in flight."""

    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Scored:
    """A chunk whose every row is decided; the predictions follow, unless all rows failed."""

    number: int
    failures: Mapping[int, RowFailure]
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Failed:
    """What ends the job."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Counted:
    """What was sent since the last such message, and when a good answer came last."""

    traffic: Traffic
    answered_s: float


@dataclass(frozen=True, slots=True)
class Retried:
    """A request is tried again after a wait."""

    code: str
    attempt: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Logged:
    """A line of the log; its event and fields are for a log of JSON."""

    level: int
    text: str
    event: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TokenWanted:
    """Another token than the refused one."""

    number: int
    refused: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing new is sent from now on."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A request that was in flight when the deployment went away wants to be tried alone."""

    number: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """This suspect needs its turn no longer."""

    number: int


@dataclass(frozen=True, slots=True)
class Away:
    """Whether the deployment is away, as found out by who has the turn."""

    is_away: bool


# Both ways.


@dataclass(frozen=True, slots=True)
class Pause:
    """The server asked to be sent nothing for so long."""

    seconds: float
