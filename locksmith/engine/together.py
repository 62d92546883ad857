"""Several claims at once: all of them held, or none, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Sequence

from locksmith import events
from locksmith.engine import telling
from locksmith.engine.core import _REFUSED, Engine
from locksmith.engine.hold import Hold, believe_until
from locksmith.engine.lease import give_up, is_lost
from locksmith.errors import LeaseLost, StoreError, StoreUnavailable
from locksmith.store import Claim


async def acquire_together(engine: Engine, claims: Sequence[Claim], max_hold: float | None) -> list[Hold] | None:
    """Holds of all claims in one step of the store, in their order; None: refused.

    Every way out but the first leaves nothing on the store, at once or as soon as it can be asked (see Engine.acquire).
    Raises SettingsConflict, StoreError, ClientClosed.
    """
    # Noted before the look at `closed`: whoever closes either is seen here, or sees these claims and undoes them.
    engine._asking.update({claim.owner: claim for claim in claims})
    began = engine.runtime.clock.now()
    try:
        engine.refuse_unusable()
        return await _obtain(engine, claims, max_hold, began)
    except _REFUSED as error:
        _tell_failed(engine, claims, began, error)
        raise
    except (StoreUnavailable, GeneratorExit) as error:
        for claim in claims:
            engine._owe(claim)
        _tell_failed(engine, claims, began, error)
        raise
    except BaseException as error:
        await _undo(engine, claims)
        _tell_failed(engine, claims, began, error)
        raise
    finally:
        for claim in claims:
            del engine._asking[claim.owner]


async def _obtain(engine: Engine, claims: Sequence[Claim], max_hold: float | None, began: float) -> list[Hold] | None:
    grants = await engine.store.acquire_all(claims)
    if grants is None:
        engine.refuse_unusable()  # not taken by others where closing has undone these claims
        return None
    now = engine.runtime.clock.now()
    if any(now >= believe_until(grant.ttl, grant.since) for grant in grants):
        raise StoreUnavailable(
            f"the store's yes to {shown(claims)} came so late that the leases may have ended by now: nothing is held; "
            "try again, or raise the ttl"
        )
    holds = [engine._begin(grant, max_hold) for grant in grants]
    if engine.hooks:
        for grant in grants:
            telling.acquired(engine.hooks, grant, now - began, queued=False)
    if engine.closed:
        mine = [hold for hold in holds if engine.keeper.drop(hold)]
        for hold in mine:
            engine._let_go(hold)
            hold.lose("the client was closed")
        await _undo(engine, [hold.grant.claim for hold in mine])
        engine.refuse_unusable()
    return holds


def _tell_failed(engine: Engine, claims: Sequence[Claim], began: float, error: BaseException) -> None:
    for claim in claims:
        telling.failed(engine.hooks, claim, engine.runtime.clock.now() - began, error)


async def _undo(engine: Engine, claims: Sequence[Claim]) -> None:
    left = list(claims)
    try:
        while left:
            if (kept := engine.keeper.holds.get(left[-1].owner)) and engine.keeper.drop(kept):
                engine._let_go(kept)
            await engine._undo(left[-1], tombstone=True)
            left.pop()
    except BaseException:
        for claim in left:
            engine._owe(claim)
        raise


async def release_all(engine: Engine, holds: Sequence[Hold]) -> bool:
    """Give all of them back, the last one first: True; False where that was done before.

    Raises LeaseLost where some were lost, after giving back the others; StoreError where the store could not be asked:
    then nothing of it is renewed any more, the keeper goes on trying, and this may be called again.
    """
    # The last one first: who waits for several waits for the first of them, and finds the others free then.
    left = sorted(holds, key=lambda hold: hold.grant.claim.key)
    given, failure = False, None
    lost: dict[Hold, LeaseLost] = {}
    try:
        while left and failure is None:
            try:
                given = await engine.release(left[-1]) or given
            except LeaseLost as error:
                lost[left[-1]] = error
            except StoreError as error:
                failure = error
            left.pop()
    finally:
        # Each of them would cost another vain request: the keeper asks when it can.
        for hold in left:
            give_up(engine, hold)
    lost |= {hold: hold.loss() for hold in left if is_lost(hold)}
    if lost:
        raise next(iter(lost.values())) if len(lost) == 1 else loss_of([hold for hold in holds if hold in lost])
    if failure is not None:
        raise failure
    return given


def loss_of(ended: Sequence[Hold]) -> LeaseLost:
    """The exception that says why these are not held any more."""
    told = [hold.loss() for hold in ended]
    return told[0] if len(told) == 1 else type(told[0])("; ".join(str(each) for each in told))


async def give_back(engine: Engine, claims: Sequence[Claim]) -> None:
    """Release what is held of these claims, because of what went wrong before; that is what the caller must see."""
    if engine.closed:
        return  # closing gives back all that is held, and closes the store after it
    holds = [hold for claim in claims if (hold := engine.keeper.holds.get(claim.owner)) is not None]
    try:
        await release_all(engine, holds)
    except Exception as error:  # noqa: BLE001 - see above
        events.logger.debug("giving back %s: %s", shown(claims), error)


def drop(engine: Engine, claims: Sequence[Claim]) -> None:
    """The same where nothing can be awaited: nothing is renewed any more, and the keeper gives it back."""
    for claim in claims:
        if (hold := engine.keeper.holds.get(claim.owner)) is not None:
            give_up(engine, hold)


def bound(engine: Engine, hold: Hold, max_hold: float) -> None:
    """Have a hold end so many seconds from now, even if it is renewed."""
    hold.ends_at = hold.now() + max_hold
    hold.valid_until = min(hold.valid_until, hold.ends_at)
    engine.keeper._wake_by(hold.ends_at)
    if engine.heart is not None:
        engine.heart.drop(hold)
        engine.heart.keep(hold)
        if hold.grant.claim.owner not in engine.keeper.holds:
            engine.heart.drop(hold)  # it was lost meanwhile, and nobody would take it from the heart again


def shown(claims: Sequence[Claim]) -> str:
    """The names, for people."""
    return " and ".join(repr(claim.name) for claim in claims)
