"""What the loads are sent to, made ready: rows on the wire, and a first answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchscore.batches import INVALID_INPUT
from batchscore.bench.bodies import Bodies, encoded_rows, make_bodies
from batchscore.bench.sender import Sender
from batchscore.errors import AttemptError, InputError, RefusedError
from batchscore.protocols.base import FallsBack
from batchscore.scoring.declared import with_inputs
from batchscore.scoring.decoding import Decoding
from batchscore.scoring.features import Features
from batchscore.scoring.learned import with_classes
from batchscore.scoring.packing import encoder_of

if TYPE_CHECKING:
    from batchscore.bench.options import BenchConfig
    from batchscore.config import ScoreConfig
    from batchscore.protocols.base import Body, EncodedRows, RowEncoder
    from batchscore.readers import OpenedInput
    from batchscore.runtime import Ground
    from batchscore.scoring.connection import Connection


@dataclass(frozen=True)
class Target:
    """What the loads are sent to.

    Attributes:
        sender: sends requests.
        bodies: the rows, by batch size.
    """

    sender: Sender
    bodies: dict[int, Bodies]


async def prepared(
    config: BenchConfig,
    job: ScoreConfig,
    opened: OpenedInput,
    connection: Connection,
    ground: Ground,
) -> Target:
    """Encode the rows, and send the first one, which completes what is known of the model."""
    schema = opened.reader.schema
    published = await connection.client.signature()
    signature = with_inputs(published, job, schema, job.map, is_pictures=opened.is_pictures)
    signature = with_classes(signature, job)
    features = Features.of(signature, opened, job)
    encoder = encoder_of(connection.protocol, signature, features)
    decoding = Decoding(connection.protocol, signature, job.probs)
    dice = ground.runtime.random
    sender = Sender(connection, decoding, config.max_attempts, dice)

    def all_bodies(size: int) -> Bodies:
        return make_bodies(encoded_rows(opened.reader, encoder, features, size, job.limit), size)

    if not opened.is_stream:
        await _try_one(encoder, features, opened, connection, decoding, ground)
    bodies = {size: await ground.offload(all_bodies, size) for size in config.batch_size}
    if opened.is_stream:
        ((size, first),) = bodies.items()
        await _answered(connection, decoding, first.items[0], size)
    return Target(sender, bodies)


async def _try_one(
    encoder: RowEncoder,
    features: Features,
    opened: OpenedInput,
    connection: Connection,
    decoding: Decoding,
    ground: Ground,
) -> None:
    """Send one row; where its form is refused, all rows take the other one from then on."""

    def first_good() -> EncodedRows:
        for encoded in encoded_rows(opened.reader, encoder, features, 1, None):
            if len(encoded.positions):
                return encoded
            failure = next(iter(encoded.failures.values()), None)
            raise InputError(
                f"none of the first rows can be sent: {failure or INVALID_INPUT}"
                "; batchscore check tells of all of them"
            )
        raise InputError("the input has no rows; give one that has some")

    encoded = await ground.offload(first_good)
    falling_back = encoded if isinstance(encoded, FallsBack) else None
    body = encoded.body(0, 1)
    try:
        await _sent(connection, decoding, body, 1)
    except AttemptError as error:
        if falling_back is None or not falling_back.fall_back(body, error):
            raise _unanswered(connection, error) from error
        await _answered(connection, decoding, encoded.body(0, 1), 1)


async def _answered(connection: Connection, decoding: Decoding, body: Body, rows: int) -> None:
    """One request before the load; raises ``RefusedError`` where it is not answered well."""
    try:
        await _sent(connection, decoding, body, rows)
    except AttemptError as error:
        raise _unanswered(connection, error) from error


async def _sent(connection: Connection, decoding: Decoding, body: Body, rows: int) -> None:
    request = connection.protocol.score_request(connection.endpoint.url, body)
    decoding.read(await connection.client.authorized.send(request), rows)


def _unanswered(connection: Connection, error: AttemptError) -> RefusedError:
    return RefusedError(
        f"{connection.endpoint.shown} does not answer its first request well, so there is nothing "
        f"to measure: {error.code}: {error}"
    )
