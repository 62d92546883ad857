"""What is owed to servers that do not answer, and which requests may have reached them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from redis import exceptions as driver

from locksmith.runtime import Blocking, drive
from locksmith.store import Claim
from locksmith.testing import eventually
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import RedisServer
from locksmith_redis import url, votes
from locksmith_redis.link import was_sent
from locksmith_redis.scripts import Keys, request
from locksmith_redis.votes import Votes

Make = Callable[..., Claim]


@pytest.fixture
def three() -> Votes:
    """Servers that nobody asks here."""
    servers = [url.from_url(f"redis://127.0.0.1:{port}", asynchronous=False) for port in (1, 2, 3)]
    return Votes(servers, Keys("t"), Blocking())


@pytest.mark.redis
@pytest.mark.parametrize("several", [False, True])
def test_a_request_that_was_sent_before_a_refused_connection_may_have_acted(
    face: Any, redis_server: RedisServer, namespace: str, several: bool
) -> None:
    """Its vote was taken for one that was never cast, and not undone: the name stayed taken there for a ttl."""
    with Proxy(redis_server.address) as proxy:
        store = face.store(proxy.through(redis_server.url), namespace)

        async def ask(*words: bytes) -> Any:
            payloads = [request(*words)]
            if not several:
                return (await store.runtime.settle(store._link.ask_all(payloads, 5.0)))[0]
            each = votes_of(store)._ask_each
            return (await store.runtime.settle(each([(store._link, payloads)], 5.0)))[0][0]

        key = f"{namespace}:voted".encode()
        assert face.run(ask(b"EXISTS", key))[0] == 0
        fault = proxy.lose_reply(matching=b"voted", reset=True)
        proxy.refuse()
        answer = face.run(ask(b"SET", key, b"1"))
        assert fault.fired
        assert isinstance(answer, driver.ConnectionError)
        assert was_sent(answer)
        answer = face.run(ask(b"SET", key, b"2"))
        assert isinstance(answer, driver.ConnectionError)
        assert not was_sent(answer)
        proxy.accept()
        assert face.run(ask(b"GETDEL", key))[0] == b"1"


def votes_of(store: Any) -> Votes:
    """How several servers are asked in this runtime."""
    return Votes([store._server], store._keys, store.runtime)


def test_what_is_owed_while_the_thread_that_pays_ends_is_paid(
    three: Votes, claim: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found alive, and had just seen that there was nothing to do."""
    monkeypatch.setattr(votes, "_PAUSES", (0.0,))
    late: list[threading.Thread] = []

    class Owed(dict[Any, Any]):
        def __bool__(self) -> bool:
            if not len(self) and not late:
                late.append(threading.Thread(target=lambda: three.owe(three.voters[1], claim())))
                late[0].start()
                late[0].join(0.2)
                return False
            return len(self) > 0

    async def pay() -> None:
        eventually(lambda: three._paying is not None, within=20)
        three._owed.clear()

    three._owed = Owed()
    monkeypatch.setattr(three, "pay", pay)
    three.owe(three.voters[0], claim())
    eventually(lambda: late and not late[0].is_alive() and not len(three._owed), within=5)


def test_a_debt_that_is_being_paid_is_not_forgotten(three: Votes, claim: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: its claim was asked for there again, and the undoing that was on its way took back the vote that counted."""
    monkeypatch.setattr(votes, "MOST_OWED", 2)
    monkeypatch.setattr(three, "_paying", _Alive())
    first, seen = claim(), []

    async def ask(script: Any, tail: bytes, within: float, among: Sequence[Any]) -> dict[Any, Any]:
        for _ in range(3):
            three.owe(three.voters[1], claim())
        seen.append(three.without_debt(first))
        return dict.fromkeys(among, (1, 0.0, False))

    monkeypatch.setattr(three, "ask", ask)
    three.owe(three.voters[0], first)
    drive(three.pay())
    assert seen[0] == three.voters[1:]


def test_debts_that_have_ended_are_not_tried_one_by_one_on_a_silent_server(
    three: Votes, claim: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cost the time of a request."""
    monkeypatch.setattr(votes, "OWED_FOR", 0.0)
    monkeypatch.setattr(three, "_paying", _Alive())
    asked = []

    async def ask(script: Any, tail: bytes, within: float, among: Sequence[Any]) -> dict[Any, Any]:
        asked.append(time.monotonic())
        return {voter: driver.TimeoutError("silent") for voter in among}

    monkeypatch.setattr(three, "ask", ask)
    for _ in range(5):
        three.owe(three.voters[0], claim())
    drive(three.pay())
    assert len(asked) == 1
    assert three._owed == {}


class _Alive:
    """Somebody who pays."""

    def alive(self) -> bool:
        return True
