"""Forks, gevent, event loops and interrupted calls."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from locksmith.runtime import drive
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Claim, Grant, Held, Ticket
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import PostgreSQLServer
from locksmith_sql.postgresql import PostgreSQLStore

pytestmark = pytest.mark.postgresql
Make = Callable[..., Claim]


def in_child(work: Callable[[], None]) -> int:
    """Run this in a forked child; its exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.native_threads
@pytest.mark.parametrize("tls", [False, True])
def test_a_forked_child_leaves_the_parents_connections_alone(
    blocking: Any, start_postgresql: Any, namespace: str, claim: Make, tls: bool
) -> None:
    """F14: a child that closes, collects or uses its copy of the store says nothing on the parent's sockets."""
    server = start_postgresql(tls=tls)
    store = blocking.store(server.url, namespace)
    grant = drive(store.acquire(claim(), queue=True))
    ticket = drive(store.acquire(claim(), queue=True))
    ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'locksmith'"
    before = set(server.sql(ours).split())

    def child() -> None:
        store.after_fork()
        other = drive(store.acquire(claim("other"), queue=True))
        waits = drive(store.acquire(claim("other"), queue=True))
        assert isinstance(waits, Ticket)
        assert drive(store.release(other))
        drive(store.wait(waits, 5))
        assert isinstance(waits.inbox.peek(), Grant)
        drive(store.close())
        gc.collect()

    inherited = store._hub.waiters.channel
    assert in_child(child) == 0
    assert before == before & set(server.sql(ours).split()), "a connection of the parent was closed"
    assert store._hub.waiters.channel == inherited
    assert isinstance(drive(store.beat([grant], [], within=5))[0], Held)
    assert drive(store.release(grant))
    drive(store.wait(ticket, 5))
    assert isinstance(ticket.inbox.peek(), Grant)


@pytest.mark.native_threads
def test_a_child_that_exits_as_usual(postgresql_server: PostgreSQLServer, namespace: str) -> None:
    """The interpreter's end collects everything: the parent's connections must not be among it."""
    program = textwrap.dedent(
        """
        import os, sys, locksmith, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        client = locksmith.connect(sys.argv[1], namespace=sys.argv[2])
        lease = client.lock("n").acquire()
        pid = os.fork()
        if pid == 0:
            assert client.lock("n").try_acquire() is None
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert lease.held and lease.release()
        client.close()
        print("fine")
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", program, postgresql_server.url, namespace],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("fine", "", 0)


def test_under_gevent(postgresql_server: PostgreSQLServer, namespace: str) -> None:
    """Monkey patched: greenlets wait for each other on one hub, and a request that hangs does not stop the others."""
    pytest.importorskip("gevent")
    program = textwrap.dedent(
        """
        from gevent import monkey; monkey.patch_all()
        import gevent, sys, time, locksmith
        client = locksmith.connect(sys.argv[1], namespace=sys.argv[2])
        lock, count, ticks = client.lock("n", ttl=5), 0, 0
        def work():
            global count
            for _ in range(10):
                with lock.acquire(wait=20):
                    seen = count
                    gevent.sleep(0.001)
                    count = seen + 1
        def tick():
            global ticks
            while True:
                gevent.sleep(0.01)
                ticks += 1
        ticking = gevent.spawn(tick)
        gevent.joinall([gevent.spawn(work) for _ in range(10)], raise_error=True)
        assert count == 100, count
        began = ticks
        holder = lock.acquire()
        assert lock.try_acquire() is None
        try:
            lock.acquire(wait=0.5)
        except locksmith.AcquireTimeout:
            pass
        assert ticks - began > 20, "the wait blocked the hub"
        holder.release()
        client.close()
        print("fine")
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, postgresql_server.url, namespace],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.stdout.strip(), done.returncode) == ("fine", 0), done.stderr


@pytest.mark.native_threads
def test_one_store_on_one_event_loop_after_another(
    postgresql_server: PostgreSQLServer, namespace: str, claim: Make
) -> None:
    """Connections belong to a loop; a store that outlives its loop opens new ones, and leaves none behind."""
    url = postgresql_server.url_for(options={"application_name": namespace})
    store = PostgreSQLStore.from_url(url, runtime=Asyncio(), namespace=namespace)

    async def use() -> None:
        grant = await store.acquire(claim(), queue=True)
        ticket = await store.acquire(claim(), queue=True)
        assert isinstance(grant, Grant)
        assert isinstance(ticket, Ticket)
        assert await store.release(grant)
        await store.wait(ticket, 5)
        handed = ticket.inbox.peek()
        assert isinstance(handed, Grant)
        assert await store.release(handed)

    for _ in range(3):
        asyncio.run(use())
    asyncio.run(store.close())
    gc.collect()


@pytest.mark.native_threads
@pytest.mark.parametrize("after", range(6))
def test_cancelled_anywhere(postgresql_server: PostgreSQLServer, namespace: str, claim: Make, after: int) -> None:
    """A cancelled request gives its connection up: the reply must not be taken for the next one's."""

    async def main() -> None:
        store = PostgreSQLStore.from_url(postgresql_server.url, runtime=Asyncio(), namespace=namespace)
        warm = await store.acquire(claim("warm"), queue=True)
        assert isinstance(warm, Grant)
        task = asyncio.ensure_future(store.acquire(claim(), queue=True))
        for _ in range(after):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            assert isinstance(task.result(), Grant)
        words = await store.beat([warm], [], within=5)
        assert isinstance(words[0], Held)
        version = await store.put("c", b"mine")
        cell = await store.get("c")
        assert cell is not None
        assert cell.version == version
        await store.close()

    asyncio.run(main())
    gc.collect()


@pytest.mark.native_threads
def test_ctrl_c_while_a_reply_is_under_way(
    blocking: Any, postgresql_server: PostgreSQLServer, namespace: str, claim: Make
) -> None:
    """KeyboardInterrupt between send and reply closes that connection."""
    with Proxy(postgresql_server.address) as proxy:
        store = blocking.store(postgresql_server.url_for(address=proxy.address), namespace)
        warm = drive(store.acquire(claim("warm"), queue=True))
        proxy.to_client.stalled = True

        def interrupt() -> None:
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            drive(store.acquire(claim(), queue=True))
        thread.join()
        proxy.heal()
        assert drive(store.release(warm))
        assert drive(store.now()) > 0


@pytest.mark.native_threads
def test_a_reply_that_is_lost(face: Any, postgresql_server: PostgreSQLServer, namespace: str, claim: Make) -> None:
    """Rule 1: done by the server, hung up before the reply: sent again, with the same answer, and never undone."""
    with Proxy(postgresql_server.address) as proxy:
        store = face.store(postgresql_server.url_for(address=proxy.address), namespace)
        mine = claim()
        face.run(store.release(face.run(store.acquire(claim("warm"), queue=False))))
        fault = proxy.lose_reply(reset=True)
        grant = face.run(store.acquire(mine, queue=False))
        assert isinstance(grant, Grant)
        fault.wait(5)
        fault = proxy.lose_reply(reset=True)
        assert face.run(store.release(grant)) is True
        fault.wait(5)
        assert not face.run(store.inspect("n")).holders
