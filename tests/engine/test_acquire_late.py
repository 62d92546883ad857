"""A yes that comes too late, and a thread that is taken for another."""

from __future__ import annotations

import threading

import pytest
from enginebench import Bench

from locksmith.client import Lease
from locksmith.errors import StoreUnavailable
from locksmith.testing import eventually


def test_a_yes_that_comes_after_its_own_lease_is_not_held(bench: Bench) -> None:
    """P9: the body of a `with` never runs unheld, and what the store granted is given back."""
    bench.store.after = lambda call: bench.clock.advance(31.0) if call.verb == "acquire" else None
    entered = False
    with pytest.raises(StoreUnavailable, match="so late"), bench.client.lock("n").acquire():
        entered = True
    assert not entered
    bench.store.after = None
    eventually(lambda: "abandon" in bench.store.verbs())
    assert bench.holders() == []


def test_a_new_thread_is_not_one_that_has_ended(bench: Bench) -> None:
    """Systems give the number of an ended thread to the next one. Its lease may live on in other hands."""
    leases: list[Lease] = []
    first = threading.Thread(target=lambda: leases.append(bench.client.lock("n").acquire()))
    first.start()
    first.join(5)
    second = threading.Thread(target=lambda: leases.append(bench.client.lock("n").acquire()))
    second.start()
    eventually(lambda: bench.waiters() == 1)
    leases[0].release()
    second.join(5)
    assert leases[1].held
