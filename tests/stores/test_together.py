"""What a multi-lock costs at each server: how many requests its one step is, counted where a request leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from locksmith.names import encode
from locksmith.store import Claim, Grant, Store
from locksmith.testing.contract.faces import FACES
from locksmith_redis.nodes import slot_of

CASES = [
    pytest.param("redis_server", ("_link",), ("ask", "ask_all"), 1, marks=pytest.mark.redis),
    pytest.param("postgresql_server", ("_link",), ("ask",), 1, marks=pytest.mark.postgresql),
    pytest.param("mariadb_server", ("_link",), ("ask",), 1, marks=pytest.mark.mariadb),
    pytest.param("etcd_server", ("_link",), ("ask", "ask_all"), 1, marks=pytest.mark.etcd),
    pytest.param("consul_server", ("_link",), ("ask", "wait"), 1, marks=pytest.mark.consul),
    # The second one asks for the tokens, which a transaction of ZooKeeper does not tell.
    pytest.param("zookeeper_server", ("_sessions", 30.0), ("send",), 2, marks=pytest.mark.zookeeper),
]


@pytest.fixture(params=sorted(FACES))
def face(request: pytest.FixtureRequest) -> Any:
    return FACES[request.param]()


def claims(*names: str) -> list[Claim]:
    return [Claim(name, encode(name), os.urandom(16).hex(), 30.0, 1, 1, 10.0, 0.0, "{}") for name in sorted(names)]


@contextmanager
def counted(store: Any, path: tuple[Any, ...], verbs: tuple[str, ...], monkeypatch: Any) -> Iterator[list[str]]:
    """The requests of a store that leave meanwhile."""
    sent: list[str] = []
    where = store
    for step in path:
        where = getattr(where, step) if isinstance(step, str) and hasattr(where, step) else where[step]

    def counting(verb: str) -> Any:
        inner = getattr(where, verb)

        def count(*args: Any, **kwargs: Any) -> Any:
            sent.append(verb)
            return inner(*args, **kwargs)

        return count

    with monkeypatch.context() as patched:
        for verb in verbs:
            patched.setattr(where, verb, counting(verb))
        yield sent


@pytest.mark.parametrize(("server", "path", "verbs", "requests"), CASES)
def test_free_names_are_one_request(
    server: str,
    path: tuple[Any, ...],
    verbs: tuple[str, ...],
    requests: int,
    face: Any,
    namespace: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many names; so it is where the names were used before."""
    url = request.getfixturevalue(server).url

    async def body() -> None:
        store: Store = face.store(url, namespace)
        for _ in range(2):  # connections, tables, sessions, scripts, nodes
            for warm in (claims("a", "b", "c"), claims(*"abcdefghij")):
                assert store.takes_together(warm)
                for grant in await store.acquire_all(warm) or []:
                    assert await store.release(grant)
        for names in ("abc", "abcdefghij"):
            wanted = claims(*names)
            with counted(store, path, verbs, monkeypatch) as sent:
                grants = await store.acquire_all(wanted)
            assert grants is not None
            assert [grant.claim for grant in grants] == wanted
            assert len(sent) == requests, sent
            for grant in grants:
                assert await store.release(grant)

    face.run(body())


@pytest.mark.redis
def test_a_cluster_takes_together_what_lies_in_one_slot(face: Any, redis_cluster: Any, namespace: str) -> None:
    """One script on one node, and otherwise one by one: no two nodes do anything in one step."""
    slots: dict[int, str] = {}
    number = 0
    while (twin := slots.get(slot_of(b"{n%d}" % number))) is None:
        slots[slot_of(b"{n%d}" % number)] = f"n{number}"
        number += 1

    async def body() -> None:
        store = face.store(redis_cluster.url, namespace)
        together = claims(twin, f"n{number}")
        assert store.takes_together(together)
        assert not store.takes_together(claims(twin, f"n{number}", "elsewhere"))
        grants = await store.acquire_all(together)
        assert await store.acquire_all(claims(twin, f"n{number}")) is None
        for grant in grants:
            assert isinstance(grant, Grant)
            assert await store.release(grant) is True

    face.run(body())
