"""Refusals and silences of the server, each as the exception that says what to do, without a secret in it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import exceptions as driver

from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable
from locksmith.store import Claim, Grant, Held, Unknown
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import RedisServer
from locksmith_redis.errors import translate
from locksmith_redis.scripts import request

pytestmark = pytest.mark.redis
Make = Callable[..., Claim]


def refused(face: Any, store: Any, claim: Claim, kind: type[StoreError], says: str) -> None:
    """Acquiring raises exactly this kind, with the cause chained and one sentence of advice."""
    with pytest.raises(kind, match=says) as caught:
        face.run(store.acquire(claim, queue=True))
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, driver.RedisError | OSError)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (driver.ResponseError("NOAUTH Authentication required."), StoreAuthError),
        (driver.ResponseError("WRONGPASS invalid username-password pair or user is disabled."), StoreAuthError),
        (driver.AuthenticationError("invalid username-password pair"), StoreAuthError),
        (driver.NoPermissionError("this user has no permissions to run the 'get' command"), StoreAuthError),
        (
            driver.ResponseError("ERR Error running script (call to f_1): @user_script:1: ACL failure in script"),
            StoreAuthError,
        ),
        (
            driver.ResponseError("ERR The user executing the script can't run this command or subcommand"),
            StoreAuthError,
        ),
        (driver.ResponseError("LOADING Redis is loading the dataset in memory"), StoreUnavailable),
        (driver.BusyLoadingError("Redis is loading the dataset in memory"), StoreUnavailable),
        (
            driver.ResponseError("ERR Error running script: @user_script: 9: -READONLY You can't write"),
            StoreUnavailable,
        ),
        (driver.ResponseError("MASTERDOWN Link with MASTER is down"), StoreUnavailable),
        (driver.ResponseError("CLUSTERDOWN Hash slot not served"), StoreUnavailable),
        (driver.ResponseError("NOREPLICAS Not enough good replicas to write."), StoreUnavailable),
        (driver.ConnectionError("max number of clients reached"), StoreUnavailable),
        (driver.ConnectionError("Error 111 connecting to localhost:1. Connection refused."), StoreUnavailable),
        (driver.TimeoutError("Timeout reading from socket"), StoreUnavailable),
        (OSError("broken"), StoreUnavailable),
        (driver.ResponseError("MOVED 3999 127.0.0.1:6381"), StoreProtocolError),
        (driver.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), StoreProtocolError),
        (driver.ResponseError("ERR unknown command 'EVALSHA', with args beginning with"), StoreProtocolError),
        (driver.ResponseError("ERR DB index is out of range"), StoreProtocolError),
        (driver.InvalidResponse("Protocol error, got 'H' as reply type byte"), StoreProtocolError),
        (driver.ConnectionError("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"), StoreProtocolError),
        (driver.ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), StoreAuthError),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Exception) else "",
)
def test_each_refusal_has_its_kind(error: Exception, kind: type[StoreError]) -> None:
    told = translate(error)
    assert type(told) is kind
    assert str(told).endswith(".")


def test_secrets_in_messages_are_hidden() -> None:
    told = translate(driver.ConnectionError("cannot reach redis://bob:hunter2@host:1/0?password=hunter2"))
    assert "hunter2" not in str(told)


def test_nobody_listens(face: Any, namespace: str, claim: Make) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        store = face.store(f"redis://:hunter2@127.0.0.1:{bound.getsockname()[1]}/0", namespace)
        refused(face, store, claim(), StoreUnavailable, "check that the server runs")


def test_not_a_redis_server(face: Any, namespace: str, claim: Make) -> None:
    """An HTTP server, for example: whatever it says is not an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    caller, _ = listener.accept()
                except OSError:
                    return
                with caller:
                    caller.recv(4096)
                    caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        store = face.store(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", namespace)
        refused(face, store, claim(), StoreProtocolError, "belong together")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_wrong_password_and_none(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    server = start_redis(password="s3cret")
    for url in (server.url_for(password="wr0ng"), server.url_for(password="").replace(":@", "")):
        with pytest.raises(StoreAuthError) as caught:
            face.run(face.store(url, namespace).acquire(claim(), queue=True))
        assert "wr0ng" not in repr(caught.value)
        assert "s3cret" not in repr(caught.value)


def test_something_else_under_our_key(face: Any, redis_server: RedisServer, namespace: str, claim: Make) -> None:
    """WRONGTYPE; and in a beat it spoils only the name it is about."""
    store = face.store(redis_server.url, namespace)
    redis_server.command("LPUSH", f"{namespace}:lock:{{bad}}", "x")
    refused(face, store, claim("bad"), StoreProtocolError, "another namespace")
    good = face.run(store.acquire(claim("good"), queue=True))
    bad = good._replace(claim=claim("bad"))
    words = face.run(store.beat([good, bad, good], [], within=5))
    assert [type(word) for word in words] == [Held, Unknown, Held]
    assert "WRONGTYPE" in str(words[1].error)
    redis_server.command("SET", f"{namespace}:cell:{{c}}", "not ours")
    with pytest.raises(StoreProtocolError, match="another namespace"):
        face.run(store.get("c"))


def test_a_replica(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    server = start_redis()
    store = face.store(server.url, namespace)
    grant = face.run(store.acquire(claim(), queue=True))
    server.command("REPLICAOF", "127.0.0.1", "1")
    refused(face, store, claim("other"), StoreUnavailable, "connect to the primary")
    (word,) = face.run(store.beat([grant], [], within=5))
    assert isinstance(word, Unknown)
    assert "primary" in str(word.error)
    assert any(finding.level == "error" for finding in face.run(store.diagnose()))


def test_a_full_disk(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    server = start_redis()
    (server.folder / "dump.rdb" / "in the way").mkdir(parents=True)
    server.command("SET", "something", "to save")
    server.command("BGSAVE")
    store = face.store(server.url, namespace)
    until = time.monotonic() + 10
    while "rdb_last_bgsave_status:err" not in str(server.command("INFO", "persistence")):
        assert time.monotonic() < until
        time.sleep(0.01)
    refused(face, store, claim(), StoreUnavailable, "MISCONF")
    server.kill()  # it would not stop without saving


def test_a_full_memory_lets_go_and_renews(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    """Nothing new is granted, but what is held can be kept and given back: in the string form and in the other."""
    server = start_redis()
    store = face.store(server.url, namespace)

    async def take() -> tuple[Any, ...]:
        lock = await store.acquire(claim("lock"), queue=True)
        permits = await store.acquire(claim("permits", limit=2), queue=True)
        return lock, permits

    lock, permits = face.run(take())
    server.command("CONFIG", "SET", "maxmemory", "1")
    refused(face, store, claim("other"), StoreUnavailable, "maxmemory")
    words = face.run(store.beat([lock, permits], [], within=5))
    assert [type(word) for word in words] == [Held, Held]
    assert face.run(store.release(lock))
    assert face.run(store.release(permits))
    server.command("CONFIG", "SET", "maxmemory", "0")
    again = face.run(store.acquire(claim("lock"), queue=True))
    assert isinstance(again, Grant)
    assert again.token > lock.token


def test_a_busy_server(blocking: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    server = start_redis(config={"lua-time-limit": "20"})
    store = blocking.store(server.url, namespace)

    def spin() -> None:
        with pytest.raises(Exception, match="killed"):
            server.command("EVAL", "while true do end", 0)

    thread = threading.Thread(target=spin)
    thread.start()
    time.sleep(0.3)
    try:
        refused(blocking, store, claim(), StoreUnavailable, "BUSY")
    finally:
        server.command("SCRIPT", "KILL")
        thread.join(5)


def test_a_node_of_a_cluster(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    server = start_redis(config={"cluster-enabled": "yes"})
    store = face.store(server.url, namespace)
    refused(face, store, claim(), StoreUnavailable, "cluster")
    assert any("Cluster" in finding.what for finding in face.run(store.diagnose()))


def test_a_silence_is_not_asked_again(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    """A timeout says nothing about the outcome; the connection is given up, so that no late reply is taken for ours."""
    server = start_redis()
    with Proxy(server.address) as proxy:
        store = face.store(proxy.through(server.url) + "?timeout=0.3", namespace)
        grant = face.run(store.acquire(claim("warm"), queue=True))
        assert isinstance(grant, Grant)
        proxy.to_client.stalled = True
        requests = proxy.requests
        began = time.monotonic()
        wanted = claim()
        refused(face, store, wanted, StoreUnavailable, "timeout")
        assert time.monotonic() - began < 1.5
        assert proxy.requests == requests + 1
        proxy.heal()
        # The lost reply was a yes; the same owner gets the same grant.
        again = face.run(store.acquire(wanted, queue=True))
        assert isinstance(again, Grant)
        assert again.token == face.run(store.inspect("n")).token


def test_a_beat_keeps_to_its_time(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    """`within` bounds the whole call, whatever the option timeout says; also where a connection must be opened."""
    server = start_redis()
    with Proxy(server.address) as proxy:
        store = face.store(proxy.through(server.url), namespace)
        grant = face.run(store.acquire(claim(), queue=True))
        proxy.black_hole()
        for _ in range(2):  # on an open connection, then on a new one
            began = time.monotonic()
            (word,) = face.run(store.beat([grant], [], within=0.2))
            assert isinstance(word, Unknown)
            assert time.monotonic() - began < 0.9
        proxy.heal()
        (word,) = face.run(store.beat([grant], [], within=5))
        assert isinstance(word, Held)


@pytest.mark.parametrize("reset", [False, True])
def test_lost_replies_do_no_harm(face: Any, start_redis: Any, namespace: str, claim: Make, reset: bool) -> None:
    """F3: the server acted, its reply was lost with the connection; the request is sent again and means the same."""
    server = start_redis()
    with Proxy(server.address) as proxy:
        store = face.store(proxy.through(server.url), namespace)
        run = face.run
        run(store.release(run(store.acquire(claim("warm"), queue=True))))

        def lose() -> None:
            proxy.lose_reply(reset=reset)

        lose()
        grant = run(store.acquire(claim(), queue=True))
        assert isinstance(grant, Grant)
        lose()
        assert [type(word) for word in run(store.beat([grant], [], within=5))] == [Held]
        lose()
        first = run(store.put("c", b"1"))
        lose()
        second = run(store.put("c", b"2", expect=first))
        assert run(store.get("c")).value == b"2"
        lose()
        assert run(store.delete("c", expect=second))
        lose()
        assert run(store.release(grant))
        evicted = run(store.acquire(claim(), queue=True))
        lose()
        assert run(store.evict("n", evicted.token))
        assert run(store.release(evicted)) is False


def test_a_batch_that_was_sent_twice_says_so(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    """Else a release that follows a slot on its way (ASKING and the script, in one batch) would be taken for a loss."""
    server = start_redis()
    with Proxy(server.address) as proxy:
        store = face.store(proxy.through(server.url), namespace)
        face.run(store.release(face.run(store.acquire(claim("warm"), queue=False))))

        async def ask() -> Any:
            return await store.runtime.settle(store._link.ask_all([request(b"PING")], 5.0))

        assert [again for _, _, again in face.run(ask())] == [False]
        proxy.lose_reply(reset=True)
        assert [again for _, _, again in face.run(ask())] == [True]
        assert [again for _, _, again in face.run(ask())] == [False]
