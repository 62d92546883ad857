"""What happens before and after a guarded function: written once, as coroutines that both faces run.

`begin` returns a Run, and then the caller runs the function and ends with `done` or `failed`; or it returns Refused,
with what the call gets instead, because somebody else runs it or has.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from locksmith.adapters import records
from locksmith.adapters.policy import Policy
from locksmith.adapters.records import MISSING, Record
from locksmith.engine.core import Engine
from locksmith.engine.hold import Hold, State
from locksmith.engine.lease import give_up
from locksmith.errors import (
    AcquireTimeout,
    AlreadyRunning,
    ClientClosed,
    LeaseLost,
    ResultNotRecorded,
    StoreError,
    StoreUnavailable,
)
from locksmith.recipes import places

if TYPE_CHECKING:
    from locksmith.aio import AsyncClient
    from locksmith.client import Client

T = TypeVar("T")

logger: Final = logging.getLogger("locksmith.run_once")
RESULT_SECONDS: Final = 60.0
"""How long a result waits for those who stood in line for it; who comes later runs the function again."""
RECORD_PATIENCE: Final = 5.0
"""Seconds a finished run goes on trying to write its record to a store that does not answer."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has the name."""

    engine: Engine
    hold: Hold

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self.hold.now() - self.hold.acquired_at


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that is not run: what it returns instead, and whether that is a result and not a stand-in."""

    value: Any
    skipped: bool


async def begin(client: Client | AsyncClient, key: str, policy: Policy) -> Run | Refused:
    """Get the name, or find out that this call is not to run. Every way out but a Run leaves nothing held.

    Raises AlreadyRunning, AcquireTimeout, SelfDeadlock, ResultNotRecorded, StoreError, GuaranteeMissing, InvalidName.
    """
    engine = client._engine
    if engine.closed:
        raise ClientClosed("the client of this function was closed: give it one that is open")
    seen = 0
    if policy.records:
        records.require_cells(engine.store)
        if (record := await records.read(engine.store, key)) is not None:
            if policy.once_per is not None and record.window:
                return _refuse_completed(key, policy, record)
            seen = record.version
    claim = client._settings.permits(key, policy.ttl).claim(note=policy.note, max_hold=policy.max_hold)
    hold = await engine.acquire(claim, policy.patience, policy.max_hold)
    if hold is None:
        return await _refuse_running(engine, key, policy)
    if not policy.records:
        return Run(engine, hold)
    try:
        # Again, under the lock: a run that ended while we stood in line has left its record before its lock.
        record = await records.read(engine.store, key)
        if record is None or not _settles(record, policy, seen):
            return Run(engine, hold)
    except GeneratorExit:
        dropped(Run(engine, hold))
        raise
    except BaseException:
        await engine.runtime.finish(_give_back_quietly(engine, hold))
        raise
    await engine.runtime.finish(_give_back_quietly(engine, hold))
    return _refuse_completed(key, policy, record)


async def done(run: Run, policy: Policy, result: T) -> T:
    """The function returned: record that, give the name back. Raises LeaseLost, with the result in it."""
    try:
        if run.hold.state is State.INHERITED:
            # A child that was forked inside the function came out of it: the lease is the parent's.
            raise run.hold.loss()
        if policy.records:
            await _record(run, policy, result)
        await _end(run, policy)
    except LeaseLost as lost:
        lost.result = result
        raise
    except StoreError as error:
        logger.warning("%s has run, but giving back its name failed: %s", run.hold.grant.claim.name, error)
    return result


async def failed(run: Run, policy: Policy) -> None:
    """The function raised, or was left early: give the name back, without a record, and without a word of our own."""
    try:
        await _end(run, policy)
    except LeaseLost as lost:
        logger.debug("after an exception: %s", lost)
    except Exception as error:  # noqa: BLE001 - what the function raised is what the caller must see
        logger.warning("%s raised, and giving back its name failed: %s", run.hold.grant.claim.name, error)


def dropped(run: Run) -> None:
    """The coroutine that ran the function was thrown away, and may not await: the keeper gives the name back."""
    give_up(run.engine, run.hold)


async def _end(run: Run, policy: Policy) -> None:
    left = 0.0 if policy.at_least is None else policy.at_least - run.seconds
    if left > 0 and run.hold.held:
        await run.engine.linger(run.hold, max(left, run.engine.store.min_ttl))
    else:
        await run.engine.release(run.hold)


async def _give_back_quietly(engine: Engine, hold: Hold) -> None:
    try:
        await engine.release(hold)
    except Exception as error:  # noqa: BLE001 - nothing was run under it, and the engine goes on giving it back
        logger.debug("giving back %r: %s", hold.grant.claim.name, error)


# Records.


def _settles(record: Record, policy: Policy, seen: int) -> bool:
    """Whether a record that was found under the lock makes running again unnecessary."""
    if policy.once_per is not None and record.window:
        return True
    # Written since this call began: by a run that was under way while we waited.
    return policy.joins and record.version != seen


async def _record(run: Run, policy: Policy, result: object) -> None:
    name = run.hold.grant.claim.name
    left = 0.0 if policy.once_per is None else policy.once_per - run.seconds
    window = left > 0
    if not window and not policy.joins:
        return
    raw, why = records.write(window=window, ran_for=run.seconds, result=result if policy.joins else MISSING)
    if why is not None:
        logger.warning("the result of %s cannot be given to calls that join it: %s", name, why)
    ttl = left if window else RESULT_SECONDS
    try:
        await _put(run, raw, max(ttl, run.engine.store.min_ttl))
    except StoreError as error:
        logger.warning("%s has completed, but that could not be recorded, so it may run again: %s", name, error)


async def _put(run: Run, raw: bytes, ttl: float) -> None:
    grant = run.hold.grant
    pause, gives_up = 0.05, run.hold.now() + RECORD_PATIENCE
    while True:
        try:
            # Guarded: who lost the name while running must not close it for others.
            await run.engine.store.put(places.of_record(grant.claim.name), raw, ttl=ttl, guard=grant)
            return
        except StoreUnavailable:
            # Without its record the work would be done again; the lease is renewed meanwhile, so there is time.
            if run.hold.now() + pause >= gives_up or not run.hold.held:
                raise
        await run.engine.runtime.sleep(pause)
        pause = min(pause * 2, 1.0)


# Calls that are not run.


def _refuse_completed(key: str, policy: Policy, record: Record) -> Refused:
    if policy.joins:
        if record.result is MISSING:
            raise ResultNotRecorded(
                f"{key!r} was run by {record.by}, whose result was not recorded"
                f"{'' if record.why_missing is None else f' ({record.why_missing})'}: return what JSON can hold, or "
                f'use on_conflict="wait" or "skip"'
            )
        return Refused(record.result, skipped=False)
    if policy.on_conflict == "raise":
        _raise(f"{key!r} has run already in this period", record.by, record.age)
    return _skip(policy, key, "has run already in this period", record.by, record.age)


async def _refuse_running(engine: Engine, key: str, policy: Policy) -> Refused:
    if policy.waits:
        raise AcquireTimeout(f"{key!r} was not free within {policy.wait} s: it was not run; try again later")
    holder, since = await _holder(engine, key)
    if policy.on_conflict == "raise":
        _raise(f"{key!r} is running", holder, since)
    return _skip(policy, key, "is running", holder, since)


def _skip(policy: Policy, key: str, what: str, holder: str | None, since: float | None) -> Refused:
    logger.info(
        "skipped %s: it %s%s", key, what, _who(holder, since), extra={"key": key, "holder": holder, "since": since}
    )
    return Refused(policy.default, skipped=True)


def _raise(what: str, holder: str | None, since: float | None) -> NoReturn:
    raise AlreadyRunning(f"{what}{_who(holder, since)}: leave it to them", holder=holder, since=since)


def _who(holder: str | None, since: float | None) -> str:
    started = None if since is None else f"started {since:.1f} s ago"
    told = ", ".join(text for text in (holder, started) if text)
    return f" ({told})" if told else ""


async def _holder(engine: Engine, key: str) -> tuple[str | None, float | None]:
    """host:pid of whoever has the name, and for how many seconds; None where nobody has it any more."""
    try:
        found = await engine.store.inspect(key)
    except StoreError as error:
        # The answer "taken" stands; who took it is for people.
        logger.debug("who holds %r: %s", key, error)
        return None, None
    if not found.holders:
        return None, None
    view = found.holders[0]
    try:
        info = json.loads(view.info)
        return f"{info['host']}:{info['pid']}", view.since
    except (ValueError, KeyError, TypeError):
        return None, view.since
