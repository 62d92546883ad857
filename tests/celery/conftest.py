"""Crews: an application with workers, for one test or for all of this process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import celery
import pytest
from celeryworkers import Crew

import locksmith
from locksmith.celery import install
from locksmith.testing.servers import RedisServer


@pytest.fixture(scope="session")
def crew(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Crew]:
    """One prefork worker of two children for all tests of this process, over Redis, which is the store as well."""
    with ExitStack() as stack:
        made = Crew(tmp_path_factory.mktemp("crew"), *[redis_server.url] * 3)
        stack.callback(made.close)
        made.worker("-c", "2")
        yield made


@pytest.fixture
def start_crew(tmp_path: Path, redis_server: RedisServer) -> Iterator[Callable[..., Crew]]:
    """A crew for this test alone, without workers yet, over the same Redis, with a SQLite file as its store."""
    with ExitStack() as stack:

        def start(store: str = f"sqlite:///{tmp_path}/locks.db", **conf: Any) -> Crew:
            made = Crew(tmp_path, redis_server.url, redis_server.url, store, **conf)
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture
def app() -> Iterator[celery.Celery]:
    """An application over memory, with a store of its own."""
    made = celery.Celery(f"app-{uuid.uuid4().hex}", broker="memory://", backend="cache+memory://", set_as_current=False)
    made.conf.task_default_queue = uuid.uuid4().hex
    with locksmith.connect("memory://", namespace=uuid.uuid4().hex) as client:
        install(made, client=client)
        yield made
        made.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """An argument, and a gate, that no other test uses. The gate is opened at the end: no task waits for ever."""
    name = uuid.uuid4().hex[:8]
    yield name
    if "crew" in request.fixturenames:
        request.getfixturevalue("crew").told.open(name)
