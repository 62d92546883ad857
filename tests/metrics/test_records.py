"""Records: a listener can compute waits, holds, contention, losses, renewals and errors from them, in both faces."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from metricsbench import Bench

import locksmith
from locksmith import events
from locksmith.testing.contract.faces import AsyncioFace, Face

KINDS = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and kind is not events.Event
]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def only(seen: list[events.Event], kind: type[Any]) -> Any:
    (event,) = [event for event in seen if isinstance(event, kind)]
    return event


def test_a_free_name(face: Face) -> None:
    async def case() -> None:
        bench = Bench(face).listen()
        lease = await bench.client.lock("n").acquire()
        await bench.advance(4.0)
        await lease.release()
        acquired, released = bench.seen
        assert isinstance(acquired, events.Acquired)
        assert (acquired.name, acquired.token, acquired.waited, acquired.queued) == ("n", lease.token, 0.0, False)
        assert isinstance(released, events.Released)
        assert (released.owner, released.token, released.held) == (acquired.owner, lease.token, 4.0)

    face.run(case())


def test_a_name_that_was_waited_for(face: Face) -> None:
    async def case() -> None:
        bench = Bench(face).listen()
        held = await bench.other.lock("n").acquire()

        async def wait() -> None:
            await (await bench.client.lock("n").acquire()).release()

        job = face.start(wait())
        await bench.queued()
        await bench.advance(3.0)
        await held.release()
        await job.result()
        # A handed-over grant is confirmed by its first renewal, which may come before the release.
        assert [kind for kind in bench.kinds() if kind != "Renewed"] == ["Queued", "Acquired", "Released"]
        acquired = only(bench.seen, events.Acquired)
        assert acquired.queued
        assert acquired.waited >= 3.0
        assert {event.owner for event in bench.seen} == {acquired.owner}

    face.run(case())


def test_refused_and_timed_out(face: Face) -> None:
    async def case() -> None:
        bench = Bench(face).listen()
        await bench.other.lock("n").acquire()
        assert await bench.client.lock("n").try_acquire() is None
        refused = only(bench.seen, events.GaveUp)
        assert (refused.queued, refused.waited) == (False, 0.0)

        async def wait() -> None:
            with pytest.raises(locksmith.AcquireTimeout):
                await bench.client.lock("n").acquire(wait=2.0)

        job = face.start(wait())
        await bench.queued()
        await bench.advance(2.5)
        await job.result()
        assert bench.kinds() == ["GaveUp", "Queued", "GaveUp"]
        timeout = bench.seen[-1]
        assert isinstance(timeout, events.GaveUp)
        assert timeout.queued
        assert timeout.waited >= 2.0

    face.run(case())


def test_acquisitions_that_fail(face: Face) -> None:
    async def case() -> None:
        bench = Bench(face).listen()
        bench.break_("acquire")
        with pytest.raises(locksmith.StoreUnavailable):
            await bench.client.lock("n").acquire()
        bench.break_()
        async with bench.client.semaphore("s", limit=2).acquire():
            with pytest.raises(locksmith.SettingsConflict):
                await bench.client.semaphore("s", limit=3).acquire()
        failed = [event for event in bench.seen if isinstance(event, events.Failed)]
        assert [(event.name, event.kind) for event in failed] == [("n", "StoreUnavailable"), ("s", "SettingsConflict")]
        assert "broken for a test" in failed[0].error

    face.run(case())


def test_a_wait_that_ends_because_the_client_is_closed(face: Face) -> None:
    async def case() -> None:
        bench = Bench(face).listen()
        await bench.other.lock("n").acquire()

        async def wait() -> None:
            with pytest.raises(locksmith.ClientClosed):
                await bench.client.lock("n").acquire()

        job = face.start(wait())
        await bench.queued()
        await bench.client.close()
        await job.result()
        assert bench.kinds() == ["Queued", "Failed"]
        assert only(bench.seen, events.Failed).kind == "ClientClosed"

    face.run(case())


@pytest.mark.native_threads
def test_a_wait_that_is_cancelled() -> None:
    async def main() -> None:
        bench = Bench(AsyncioFace()).listen()
        await bench.other.lock("n").acquire()
        task = asyncio.ensure_future(bench.client.lock("n").acquire())
        await bench.queued()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bench.kinds() == ["Queued", "Failed"]
        assert only(bench.seen, events.Failed).kind == "CancelledError"
        await bench.client.close()
        await bench.other.close()

    asyncio.run(main())


def test_renewals_that_succeed_and_fail(face: Face) -> None:
    async def case() -> None:
        bench = Bench(face).listen()
        lease = await bench.client.lock("n", ttl=30).acquire()
        await bench.advance(10.5)
        assert bench.kinds() == ["Acquired", "Renewed"]
        renewed = bench.seen[1]
        assert isinstance(renewed, events.Renewed)
        assert (renewed.token, renewed.took) == (lease.token, 0.0)
        bench.break_("beat")
        await bench.advance(15.0)
        failures = [event for event in bench.seen if isinstance(event, events.RenewalFailed)]
        assert len(failures) > 1
        assert [event.failures for event in failures] == list(range(1, len(failures) + 1))
        assert {event.kind for event in failures} == {"StoreUnavailable"}
        assert only(bench.seen, events.Suspect).remaining > 0
        bench.break_()
        await bench.advance(6.0)
        assert bench.kinds()[-2:] == ["Renewed", "Recovered"]
        await lease.release()

    face.run(case())


def test_a_loss_is_held_until_its_deadline_and_not_longer(face: Face) -> None:
    async def case() -> None:
        bench = Bench(face).listen()
        lease = await bench.client.lock("n", ttl=30).acquire()
        bench.break_("beat")
        await bench.advance(40.0)
        assert not lease.held
        lost = only(bench.seen, events.Lost)
        assert lost.token == lease.token
        assert 29.0 < lost.held < 30.0

    face.run(case())


def test_a_lease_that_was_taken_away(face: Face) -> None:
    async def case() -> None:
        bench = Bench(face).listen()
        lease = await bench.client.lock("n", ttl=30).acquire()
        await bench.other.evict("n", lease.token)
        await bench.advance(10.5)
        assert 9.0 < only(bench.seen, events.Lost).held < 11.0

    face.run(case())


def test_a_release_that_fails(face: Face) -> None:
    async def case() -> None:
        bench = Bench(face).listen()
        lease = await bench.client.lock("n").acquire()
        bench.break_("release", "abandon")
        with pytest.raises(locksmith.StoreUnavailable):
            await lease.release()
        assert only(bench.seen, events.ReleaseFailed).kind == "StoreUnavailable"

    face.run(case())


def test_hooks_come_and_go(face: Face) -> None:
    async def case() -> None:
        bench = Bench(face)
        lock, late = bench.client.lock("n"), list[events.Event]()

        def once(event: events.Event) -> None:
            bench.client.remove_hook(once)
            bench.seen.append(event)

        bench.client.add_hook(once)
        bench.client.add_hook(late.append)
        bench.client.add_hook(late.append)
        await (await lock.acquire()).release()
        assert bench.kinds() == ["Acquired"]
        # Nobody misses a record because another hook went.
        assert [type(event) for event in late] == [events.Acquired, events.Released]
        bench.client.remove_hook(late.append)
        bench.client.remove_hook(late.append)
        await (await lock.acquire()).release()
        assert len(late) == 2
        with pytest.raises(locksmith.ConfigurationError, match="callable"):
            bench.client.add_hook("print")  # type: ignore[arg-type]

    face.run(case())


def test_without_a_hook_no_record_is_made(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off costs nothing: nobody listens, so nothing is built."""

    def refuse(self: object, *facts: object) -> None:
        raise AssertionError(f"{type(self).__name__} was made for nobody")

    for kind in KINDS:
        monkeypatch.setattr(kind, "__init__", refuse)

    async def case() -> None:
        bench = Bench(face)
        lease = await bench.client.lock("n").acquire()
        await bench.advance(25.0)
        assert len([call for call in bench.store.calls if call.verb == "beat"]) == 2
        assert await bench.client.lock("n").try_acquire() is None
        await lease.release()
        bench.break_("acquire")
        with pytest.raises(locksmith.StoreUnavailable):
            await bench.client.lock("n").acquire()

    face.run(case())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_records_are_frozen_small_and_documented(kind: type[events.Event]) -> None:
    values = ["n", "o"] + [1] * (len(dataclasses.fields(kind)) - 2)
    event = kind(*values)  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.name = "other"  # type: ignore[misc]
    assert not hasattr(event, "__dict__")
    (row,) = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(f"| `{kind.__name__}` |")]
    for field in dataclasses.fields(kind)[2:]:
        assert f"`{field.name}`" in row
