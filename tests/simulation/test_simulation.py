"""Five hundred seeds, and whether the simulation sees what it is there to see."""

import asyncio
import random

import pytest

from simulation.disk import CrashedError, SimulatedDisk, restore
from simulation.loop import DeadlockError, SimulatedLoop
from simulation.world import ViolatedError, simulate

SEEDS = 500
_SEEDS_A_TEST = 25


@pytest.mark.parametrize("first", range(0, SEEDS, _SEEDS_A_TEST))
def test_jobs_keep_their_promises_whatever_happens(first):
    """Whatever faults, outages, kills, power losses and full disks come, every row is right."""
    for seed in range(first, first + _SEEDS_A_TEST):
        assert simulate(seed).ended in {"whole", "model changed"}


def test_a_seed_is_the_same_each_time():
    """A failing seed can be looked at again: what happens depends on nothing but the seed."""

    def story(seed):
        lines = []
        simulate(seed, lines.append)
        return [line for line in lines if "/simulation-" not in line]

    for seed in (3, 8, 61, 140):
        assert story(seed) == story(seed)


# Mistakes that are planted, each of which some seed must show.


async def in_order_of_completion(chunks, score, write, window):
    """Writes what is done first, first."""
    running = [asyncio.ensure_future(score(chunk)) async for chunk in chunks]
    for done in asyncio.as_completed(running):
        await write([await done])


def trusts_the_journal(file, entry):
    """Takes every line of the journal for true."""
    file.seek(entry.end)
    return entry.crc


async def never_looks_again(client):
    """Takes the model for the same for ever."""


def blames_the_rows(policy, error, *, others_answered):
    """Takes every failure for the rows' own."""
    return True


def moves_without_syncing(disk, path, out, *, overwrite):
    """Gives a file its name while its bytes are still on the way."""
    disk.replace(path, out)
    disk.sync_folder(out.parent)


@pytest.mark.parametrize(
    ("target", "broken", "first"),
    [
        ("batchscore.partial.next_crc", trusts_the_journal, 0),
        ("batchscore.partial.folder.move_into_place", moves_without_syncing, 0),
        ("batchscore.client.client.Client.check_model", never_looks_again, 0),
        # Seldom enough that no seed of the first thousand shows it.
        ("batchscore.client.retry.RetryPolicy.blames_rows", blames_the_rows, 1400),
        ("batchscore.scorer.ordered_map", in_order_of_completion, 0),
    ],
)
def test_a_planted_mistake_is_found_and_the_message_tells_how_to_see_it_again(
    monkeypatch, target, broken, first
):
    """The simulation is no check that cannot fail."""
    monkeypatch.setattr(target, broken)

    def all_seeds():
        for seed in range(first, first + 1000):
            simulate(seed)

    with pytest.raises(ViolatedError, match="python -m simulation [0-9]+"):
        all_seeds()


# The parts of the simulation itself.


def test_time_passes_at_once_when_nobody_has_anything_to_do():
    """An hour of sleep takes no time, and ends at the right one."""
    loop = SimulatedLoop(10.0)

    async def sleep():
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(1800))
        return loop.time()

    assert loop.run_until_complete(sleep()) == pytest.approx(3610)
    loop.close()


def test_tasks_that_wait_for_each_other_are_a_deadlock():
    """What would hang for ever ends at once, and says so."""
    loop = SimulatedLoop()
    waiting = loop.create_task(asyncio.Event().wait())
    with pytest.raises(DeadlockError):
        loop.run_until_complete(waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiting)
    loop.close()


def write(disk, path, data, *, sync):
    with disk.open(path, "xb") as file:
        rest = data
        while rest:
            rest = rest[file.write(rest) :]
        if sync:
            disk.sync(file)


def test_a_power_loss_keeps_what_was_synced_and_maybe_some_of_the_rest(tmp_path):
    """Bytes and names are lost independently, and neither once both were synced."""
    seen = set()
    for seed in range(200):
        root = tmp_path / str(seed)
        root.mkdir()
        disk = SimulatedDisk(root, random.Random(seed))
        write(disk, root / "synced", b"a" * 1000, sync=True)
        disk.sync_folder(root)
        write(disk, root / "named", b"b" * 1000, sync=False)
        disk.crash(power=True)
        restore(root, disk.image)
        assert (root / "synced").read_bytes() == b"a" * 1000
        path = root / "named"
        seen.add(path.read_bytes() if path.exists() else None)
        with pytest.raises(CrashedError):
            disk.unlink(root / "synced")
    assert {None, b"", b"b" * 1000} < seen


def test_a_kill_keeps_everything_that_was_written(tmp_path):
    """The system goes on when a process does not."""
    disk = SimulatedDisk(tmp_path, random.Random(1))
    write(disk, tmp_path / "a", b"a" * 1000, sync=False)
    disk.link(tmp_path / "a", tmp_path / "b")
    disk.crash(power=False)
    restore(tmp_path, disk.image)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"a" * 1000
    assert (tmp_path / "a").stat().st_nlink == 2


def test_a_machine_stops_in_the_middle_of_a_write(tmp_path):
    """Any number of the bytes may have been written."""
    lengths = set()
    for seed in range(100):
        path = tmp_path / str(seed)
        disk = SimulatedDisk(tmp_path, random.Random(seed))
        disk.stop_at(2, power=False)
        with pytest.raises(CrashedError):
            write(disk, path, b"x" * 100, sync=False)
        lengths.add(len(disk.image.contents[disk.image.names[path]]))
    assert len(lengths) > 20
