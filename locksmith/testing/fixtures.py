"""Fixtures for the tests of locksmith's users: `pytest_plugins = ["locksmith.testing.fixtures"]` in a conftest.py.

def test_it(locksmith_server):
    client = locksmith.connect(locksmith_server("etcd").url)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NoReturn

import pytest

from locksmith.testing.servers.catalogue import Throwaway, make
from locksmith.testing.servers.programs import ServerMissing, in_ci


@pytest.fixture(scope="session")
def locksmith_server() -> Iterator[Callable[[str], Throwaway]]:
    """`locksmith_server("redis")`: a real server, started when it is first asked for and shared by the whole session.

    The names are those of `locksmith serve`. Keep tests apart by a `namespace` each. Where its program is missing the
    test is skipped, with the line that installs it; where CI=true it fails.
    """
    running: dict[str, Throwaway] = {}
    with ExitStack() as stack:

        def started(name: str) -> Throwaway:
            if name not in running:
                try:
                    running[name] = stack.enter_context(make(name))
                except ServerMissing as missing:
                    _skip_or_fail(missing)
            return running[name]

        yield started


def _skip_or_fail(missing: ServerMissing) -> NoReturn:
    if in_ci():
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))
