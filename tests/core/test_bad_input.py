"""Part by part what cannot work: a specific exception with a sentence, and nothing is sent."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

import locksmith
from locksmith import errors

TTLS = [0, -1, math.nan, math.inf, -math.inf, "30", True, 1e-9]
NAMES = ["", None, 7, b"bytes", "x" * 1025, "ü" * 600]


@pytest.fixture(params=["blocking", "asyncio"])
def client(request: pytest.FixtureRequest) -> Any:
    connect = locksmith.connect if request.param == "blocking" else locksmith.aio.connect
    return connect("memory://bad-input")


@pytest.mark.parametrize("ttl", TTLS)
def test_ttls(client: Any, ttl: Any) -> None:
    with pytest.raises(locksmith.InvalidTTL, match="ttl"):
        client.lock("x", ttl=ttl)


@pytest.mark.parametrize("name", NAMES)
def test_names(client: Any, name: Any) -> None:
    for make in (client.lock, client.rwlock, lambda it: client.semaphore(it, limit=2)):
        with pytest.raises(locksmith.InvalidName):
            make(name)


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2", True, 2**20 + 1])
def test_limits(client: Any, limit: Any) -> None:
    with pytest.raises(locksmith.ConfigurationError, match="limit"):
        client.semaphore("x", limit=limit)


@pytest.mark.parametrize("wrong", [{"wait": -1}, {"wait": "5"}, {"wait": math.nan}, {"permits": 0}, {"permits": 2},
                                   {"permits": True}, {"note": 7}, {"note": "x" * 999}, {"max_hold": 0}])  # fmt: skip
def test_acquire(client: Any, wrong: dict[str, Any]) -> None:
    async def acquire() -> None:
        await client.lock("x").acquire(**wrong)

    def act() -> None:
        if isinstance(client, locksmith.Client):
            client.lock("x").acquire(**wrong)
        else:
            asyncio.run(acquire())

    with pytest.raises(locksmith.ConfigurationError):
        act()


@pytest.mark.parametrize("target", ["nonsense", "no-such-store://h", 7, None, "memory://x?y=1"])
def test_targets(target: Any) -> None:
    with pytest.raises(locksmith.ConfigurationError):
        locksmith.connect(target)


def test_an_unknown_scheme_lists_what_is_installed() -> None:
    with pytest.raises(locksmith.UnknownScheme, match=r"memory://.*redis://.*sqlite://"):
        locksmith.connect("no-such-store://h")


def test_every_error_has_a_sentence_and_one_root() -> None:
    found = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, Exception)]
    assert len(found) > 15
    for cls in found:
        assert issubclass(cls, errors.LocksmithError)
        assert cls.__doc__
        assert cls.__doc__.strip().splitlines()[0].endswith((".", ":"))
    assert issubclass(errors.AcquireTimeout, TimeoutError)
    assert issubclass(errors.StoreUnavailable, ConnectionError)
