"""Fixtures for every test: real servers, and names that no other test uses."""

from __future__ import annotations

import gc
import re
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NoReturn, TypeVar

import pytest
from hypothesis import settings

from locksmith.testing.servers import (
    ConsulServer,
    EtcdServer,
    MariaDBServer,
    PostgreSQLServer,
    RabbitMQServer,
    RedisCluster,
    RedisNodes,
    RedisSentinels,
    RedisServer,
    Server,
    ServerMissing,
    ZooKeeperServer,
    in_ci,
)
from locksmith.testing.servers.redis_group import RedisGroup

G = TypeVar("G", bound=RedisGroup)

# No deadline per example: machines under test are busy. And in CI the same examples each time.
settings.register_profile("locksmith", deadline=None, derandomize=in_ci())
settings.load_profile("locksmith")

# What a shell starts in the background ignores Ctrl-C, and hands that down to every process that tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONG_CASES = ("crowd", "interrupts", "procs")
"""The parts of the contract that take long. Every store runs all of them, but not on every Python again."""
ON_SEVERAL = re.compile(r"_(cluster|quorum|sentinel|several)")
BRIEF_STORES = ("test_memory.py", "test_sqlite.py", "test_redis.py")


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow. Under gevent leave out what is not about the blocking face: event loops, real threads."""
    for item in items:
        if _is_long(item) and item.path.name not in BRIEF_STORES:
            item.add_marker("slow")
        if item.get_closest_marker("redis") and ON_SEVERAL.search(item.path.name):
            item.add_marker("several")
    if not _under_gevent():
        return
    left_out = [item for item in items if _needs_native(item)]
    items[:] = [item for item in items if not _needs_native(item)]
    config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """Thousands of tests are collected, and stay: the garbage collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


def _is_long(item: pytest.Item) -> bool:
    package, _, part = str(getattr(item, "function", item).__module__).rpartition(".")
    return package == "locksmith.testing.contract" and part in LONG_CASES


def _under_gevent() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _needs_native(item: pytest.Item) -> bool:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    marked = any(item.get_closest_marker(name) for name in ("asyncio", "native_threads"))
    return marked or params.get("face") == "asyncio"


def _skip_or_fail(missing: ServerMissing) -> NoReturn:
    """A missing program skips the test on a laptop; where CI=true nothing is skipped in silence."""
    if in_ci():
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One redis-server for all tests of this worker. Leave it running, and keep to a `namespace` of your own."""
    try:
        server = RedisServer().start()
    except ServerMissing as missing:
        _skip_or_fail(missing)
    with server:
        yield server


@pytest.fixture(scope="session")
def redis_sentinels() -> Iterator[RedisSentinels]:
    """A primary, a replica and three sentinels for all tests of this worker. Leave them running."""
    yield from _group(RedisSentinels(down_after=15.0))  # a busy machine must not look like a dead primary


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A cluster of three nodes for all tests of this worker. Leave it running."""
    yield from _group(RedisCluster(node_timeout=15.0))


@pytest.fixture(scope="session")
def redis_nodes() -> Iterator[RedisNodes]:
    """Three independent redis-servers for all tests of this worker. Leave them running."""
    yield from _group(RedisNodes())


def _group(group: G) -> Iterator[G]:
    try:
        group.start()
    except ServerMissing as missing:
        _skip_or_fail(missing)
    with group:
        yield group


@pytest.fixture(scope="session")
def consul_server() -> Iterator[ConsulServer]:
    """One Consul server, with short sessions, for all tests of this worker. Leave it running."""
    try:
        server = ConsulServer(session_ttl_min=0.2).start()
    except ServerMissing as missing:
        _skip_or_fail(missing)
    with server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDBServer]:
    """One MariaDB server for all tests of this worker. Leave it running, and keep to a `namespace` of your own."""
    try:
        server = MariaDBServer().start()
    except ServerMissing as missing:
        _skip_or_fail(missing)
    with server:
        yield server


@pytest.fixture
def start_redis() -> Iterator[Callable[..., RedisServer]]:
    """Start a redis-server for this test alone, with the options of `RedisServer`: `start_redis(tls=True)`."""
    with ExitStack() as stack:
        yield lambda **options: _entered(stack, RedisServer(**options))


def _entered(stack: ExitStack, server: Any) -> Any:
    assert isinstance(server, Server)
    try:
        return stack.enter_context(server)
    except ServerMissing as missing:
        _skip_or_fail(missing)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """One PostgreSQL server for all tests of this worker. Leave it running, and keep to a `namespace` of your own."""
    try:
        server = PostgreSQLServer().start()
    except ServerMissing as missing:
        _skip_or_fail(missing)
    with server:
        yield server


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[EtcdServer]:
    """One etcd server for all tests of this worker. Leave it running, and keep to a `namespace` of your own."""
    try:
        server = EtcdServer().start()
    except ServerMissing as missing:
        _skip_or_fail(missing)
    with server:
        yield server


@pytest.fixture(scope="session")
def zookeeper_server() -> Iterator[ZooKeeperServer]:
    """One ZooKeeper server for all tests of this worker. Leave it running, and keep to a `namespace` of your own."""
    try:
        server = ZooKeeperServer().start()
    except ServerMissing as missing:
        _skip_or_fail(missing)
    with server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQServer]:
    """One RabbitMQ server for all tests of this worker. Leave it running, and keep to queues of your own."""
    try:
        server = RabbitMQServer().start()
    except ServerMissing as missing:
        _skip_or_fail(missing)
    with server:
        yield server


@pytest.fixture
def namespace() -> str:
    """A prefix for names that no other test, worker or run uses."""
    return f"t{uuid.uuid4().hex[:12]}"
