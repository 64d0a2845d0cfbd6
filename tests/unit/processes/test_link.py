"""Link: messages and rows, whole and in order, however the socket cuts them up."""

import asyncio
import random
import socket

import pyarrow as pa
import pytest

from batchscore.processes.link import Answers, Link


async def pair(on_message):
    ours, theirs = socket.socketpair()
    return await Link.over(ours, lambda *_: None), await Link.over(theirs, on_message)


async def test_messages_arrive_whole_and_in_order():
    """Small and large, with rows and without, many at once and one byte over a buffer."""
    rng = random.Random(0)
    sizes = [
        0,
        1,
        7,
        8,
        2**16 - 40,
        2**16,
        2**16 + 1,
        3 * 2**20,
        *rng.choices(range(200_000), k=60),
    ]
    sent = []
    for number, size in enumerate(sizes):
        text = "x" * rng.choice([0, 10, 5000, 100_000])
        rows = pa.py_buffer(rng.randbytes(size)) if size else None
        sent.append(((number, text), rows))
    got = []
    sender, receiver = await pair(lambda message, rows: got.append((message, rows)))
    for message, rows in sent:
        sender.send(message, rows)
    sender.close()
    await receiver.ended
    assert [message for message, _ in got] == [message for message, _ in sent]
    for (_, found), (_, rows) in zip(got, sent, strict=True):
        assert (found is None) == (rows is None)
        assert found is None or found.equals(rows)


async def test_the_end_of_one_side_ends_the_other():
    """And what is sent after that is nobody's error."""
    sender, receiver = await pair(lambda *_: None)
    sender.close()
    await asyncio.wait_for(receiver.ended, 5)
    receiver.send("into the void")


async def test_what_the_receiver_cannot_take_ends_the_link():
    """With its own error, at whoever waits for the end."""

    def refuse(message, _rows):
        raise LookupError(message)

    sender, receiver = await pair(refuse)
    sender.send("what is that?")
    with pytest.raises(LookupError, match="what is that"):
        await asyncio.wait_for(receiver.ended, 5)
    sender.close()
    receiver.close()


async def test_an_answer_goes_to_who_asked_and_to_nobody_where_that_was_cancelled():
    """Answers may come in any order, and too late for who gave up, which is no error."""
    answers = Answers()
    (first, one), (given_up, other), (last, third) = [answers.expect() for _ in range(3)]
    other.cancel()
    for number in (last, given_up, first):
        answers.give(number, f"to {number}")
    assert (await one, await third) == (f"to {first}", f"to {last}")
    assert other.cancelled()
