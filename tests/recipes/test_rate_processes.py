"""Eight processes and one limit, judged by the clock of the server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from locksmith.testing.processes import Worker

pytestmark = [pytest.mark.slow, pytest.mark.native_threads]

LIMIT, BURST, SECONDS, AHEAD = 20, 2, 3.0, 3
"""Six processes book four slots each before they wait: machines that stop for a second do not leave the limit idle."""


SERVERS = ("redis", "postgresql", "mariadb")


@pytest.fixture(params=["sqlite", *(pytest.param(name, marks=getattr(pytest.mark, name)) for name in SERVERS)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'locks.db'}"
    return str(request.getfixturevalue(f"{request.param}_server").url)


def test_eight_processes_use_the_limit_and_never_exceed_it(url: str, namespace: str) -> None:
    """Six wait for slots, two try without a pause; half of them on event loops."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(url, runtime=("blocking", "asyncio")[number % 2], namespace=namespace))
            for number in range(8)
        ]

        def pace(number: int, name: str = "sms", seconds: float = SECONDS) -> list[int]:
            ahead = 0 if number < 2 else AHEAD
            rates = [f"{LIMIT}/s", "100000/h"]
            told = workers[number].ask("pace", name=name, rates=rates, burst=BURST, seconds=seconds, ahead=ahead)
            return [int(at) for at in told]

        for number in range(8):
            pace(number, name="warm", seconds=0.01)  # connected, and all tables are there
        with ThreadPoolExecutor(8) as together:
            taken = list(together.map(pace, range(8)))
    slots = sorted(at for each in taken for at in each)
    assert all(each for each in taken[2:]), "whoever waits gets some"
    for first, after in zip(slots, slots[LIMIT + BURST :], strict=False):
        assert after - first >= 1_000_000, f"{LIMIT + BURST + 1} in {(after - first) / 1e6} s"
    # From when all of them take part until the first one has ended.
    begins = max(each[0] for each in taken[2:])
    ends = min(each[-1] for each in taken[2:])
    busy = [at for at in slots if begins <= at <= ends]
    assert len(busy) > LIMIT, "this was too short to say anything"
    assert (len(busy) - 1) * 1_000_000 >= 0.95 * LIMIT * (busy[-1] - busy[0])
