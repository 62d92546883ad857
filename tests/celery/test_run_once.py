"""run_once under @app.task, with a real worker: as it is anywhere else."""

from __future__ import annotations

import pytest
from celery import states

from locksmith.testing.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.native_threads]
SOON = 40.0


def test_bound_and_skipped(crew, name):
    """The second call is not run; its result is the one that JSON has for SKIPPED."""
    first = crew.once.delay(name, gate=name)
    crew.begun(name)
    assert crew.once.delay(name, gate=name).get(timeout=SOON) is None
    crew.told.open(name)
    assert first.get(timeout=SOON) == name
    assert len(crew.told.lines("begin", name)) == 1


def test_bound_without_a_key_of_its_own(crew, name):
    """All arguments count, and `self` is the task, the same in every process."""
    first = crew.digest.delay(name, gate=name)
    crew.begun(name)
    assert crew.digest.delay(name, gate=name).get(timeout=SOON) is None
    assert crew.digest.delay(f"{name}-other").get(timeout=SOON) == f"{name}-other"
    crew.told.open(name)
    assert first.get(timeout=SOON) == name


def test_autoretry(crew, name):
    """Each try is a run of its own, with a token of its own."""
    assert crew.once.delay(name, "flaky").get(timeout=SOON) == name
    tokens = [int(line.split()[3]) for line in crew.told.lines("begin", name)]
    assert len(tokens) == 2
    assert tokens[0] < tokens[1]


def test_soft_time_limit(crew, name):
    result = crew.once.apply_async([name, "sleep"], soft_time_limit=1)
    eventually(result.ready, within=SOON, what="the limit was reached")
    assert result.state == states.FAILURE
    assert crew.once.delay(name).get(timeout=SOON) == name


def test_a_child_that_is_killed(crew, name):
    """Its lease ends by itself: no retry of the store is needed, only its ttl."""
    result = crew.once.delay(name, "die")
    eventually(result.ready, within=SOON, what="the child was killed")
    assert result.state == states.FAILURE
    eventually(lambda: crew.once.delay(name).get(timeout=SOON) == name, within=SOON, what="the lease has ended")


def test_a_lease_outlives_its_ttl_while_the_task_runs(crew, name):
    first = crew.once.apply_async([name], {"gate": name})
    crew.begun(name)
    with crew_client(crew) as client:
        token = client.inspect(f"once:{name}").token
        expires = client.inspect(f"once:{name}").holders[0].expires_in
        eventually(
            lambda: client.inspect(f"once:{name}").holders[0].expires_in > expires, within=SOON, what="a renewal"
        )
        assert client.inspect(f"once:{name}").token == token
    crew.told.open(name)
    assert first.get(timeout=SOON) == name


def crew_client(crew):
    import locksmith

    return locksmith.connect(crew.app.conf.locksmith_url)
