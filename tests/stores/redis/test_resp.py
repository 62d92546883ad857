"""The reader of replies in Python, against hiredis, and in its place."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from redis import exceptions as driver

from locksmith.store import Grant, Ticket
from locksmith.testing.servers import RedisServer
from locksmith_redis import hub, wire
from locksmith_redis.resp import MORE, PlainReader, new_reader

STREAM = (
    b":12\r\n$-1\r\n$0\r\n\r\n+OK\r\n-ERR no\r\n-NOSCRIPT none\r\n*-1\r\n*0\r\n"
    b"*3\r\n$7\r\nmessage\r\n$3\r\na\r\n\r\n*2\r\n:-5\r\n*1\r\n$1\r\n\xff\r\n$5\r\nab\r\nc\r\n"
)


def replies(reader: Any, pieces: list[bytes]) -> list[Any]:
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (reply := reader.gets()) is not MORE:
            found.append((type(reply), str(reply)) if isinstance(reply, Exception) else reply)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_both_read_the_same_whatever_the_pieces(seed: int) -> None:
    cuts = sorted({0, len(STREAM), *random.Random(seed).sample(range(len(STREAM)), seed * 4)})
    pieces = [STREAM[start:stop] for start, stop in pairwise(cuts)]
    expected = [12, None, b"", b"OK", (driver.ResponseError, "ERR no"), (driver.NoScriptError, "NOSCRIPT none")]
    expected += [None, [], [b"message", b"a\r\n", [-5, [b"\xff"]]], b"ab\r\nc"]
    assert replies(PlainReader(), pieces) == expected
    assert replies(new_reader(), pieces) == expected


def test_nonsense_is_not_a_reply() -> None:
    for reader in (PlainReader(), new_reader()):
        with pytest.raises(driver.InvalidResponse):
            replies(reader, [b"HTTP/1.1 400 Bad Request\r\n"])


@pytest.mark.redis
def test_without_hiredis(
    blocking: Any, redis_server: RedisServer, namespace: str, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "new_reader", PlainReader)
    store = blocking.store(redis_server.url, namespace)
    grant = blocking.run(store.acquire(claim(), queue=True))
    ticket = blocking.run(store.acquire(claim(), queue=True))
    assert isinstance(grant, Grant)
    assert isinstance(ticket, Ticket)
    assert len(blocking.run(store.beat([grant] * 300, [ticket], within=5))) == 301
    assert blocking.run(store.release(grant))
    blocking.run(store.wait(ticket, 5))
    assert isinstance(ticket.inbox.peek(), Grant)
    assert isinstance(store._hub, hub.Hub)
