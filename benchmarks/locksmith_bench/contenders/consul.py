"""Consul: two transactions by hand as the floor, and a lock of one key with a session and a blocking query."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from locksmith_bench.contenders.base import AsyncPair, Contender, Give, Goal, Lineup, Pair, Take

BARE: Final = "session and blocking query"
_OK: Final = 200
_SESSION: Final = json.dumps({"TTL": "60s", "Behavior": "delete", "LockDelay": "0s", "Checks": []}).encode()


def lineup(url: str) -> Lineup:
    """The floor sends what it sends through the connections that locksmith plugs into py-consul."""
    del url
    name, promises = "floor: txn lock + txn check-session, delete", "exclusion only"
    return Lineup(
        blocking=[Contender(name, promises, _floor, is_floor=True)],
        aio=[Contender(name, promises, _async_floor, is_floor=True)],
        rivals={BARE: _bare},
        goal=Goal(pair=1.25, handoff=1.3, reference=BARE),
    )


def _taking(name: str, session: str) -> bytes:
    value = base64.b64encode(os.urandom(16)).decode("ascii")
    return json.dumps([{"KV": {"Verb": "lock", "Key": name, "Value": value, "Session": session}}]).encode()


def _giving(name: str, session: str) -> bytes:
    checked = {"KV": {"Verb": "check-session", "Key": name, "Session": session}}
    return json.dumps([checked, {"KV": {"Verb": "delete", "Key": name}}]).encode()


def _done(reply: Any) -> Any:
    assert reply.code == _OK, reply
    return json.loads(reply.body)


@contextmanager
def _asking(url: str) -> Iterator[tuple[Callable[..., Any], str]]:
    """What sends a request, and a session."""
    from locksmith.runtime import SystemClock, drive
    from locksmith_consul.link import Link
    from locksmith_consul.url import from_url

    link = Link(from_url(url), SystemClock().now)
    session = _done(link.ask("PUT", "/v1/session/create", _SESSION))["ID"]
    try:
        yield link.ask, session
    finally:
        link.ask("PUT", f"/v1/session/destroy/{session}")
        drive(link.end())


@contextmanager
def _floor(url: str, name: str) -> Iterator[Pair]:
    with _asking(url) as (ask, session):

        def pair() -> None:
            assert _done(ask("PUT", "/v1/txn", _taking(name, session)))["Results"]
            _done(ask("PUT", "/v1/txn", _giving(name, session)))

        yield pair


@asynccontextmanager
async def _async_floor(url: str, name: str) -> AsyncIterator[AsyncPair]:
    from locksmith.runtime import SystemClock
    from locksmith_consul.link_async import AsyncLink
    from locksmith_consul.url import from_url

    link = AsyncLink(from_url(url), SystemClock().now)
    session = _done(await link.ask("PUT", "/v1/session/create", _SESSION))["ID"]

    async def pair() -> None:
        assert _done(await link.ask("PUT", "/v1/txn", _taking(name, session)))["Results"]
        _done(await link.ask("PUT", "/v1/txn", _giving(name, session)))

    try:
        yield pair
    finally:
        await link.ask("PUT", f"/v1/session/destroy/{session}")
        await link.end()


@contextmanager
def _bare(url: str, name: str) -> Iterator[Take]:
    """The lock of Consul's own guides: try; where that fails wait for the key to change, and try again."""
    with _asking(url) as (ask, session):
        place = f"/v1/kv/{name}"

        def give() -> None:
            assert _done(ask("PUT", f"{place}?release={session}"))

        def take() -> Give:
            index = "0"
            while not _done(ask("PUT", f"{place}?acquire={session}", session.encode())):
                reply = ask("GET", f"{place}?wait=4s&index={index}")
                # Of a key that is free again nobody will say that it changed.
                index = reply.headers["X-Consul-Index"] if '"Session"' in reply.body else "0"
            return give

        yield take
