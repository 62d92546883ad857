"""Cells as users have them: where they lie, and updates that meet others."""

from __future__ import annotations

import random
import uuid
from functools import partial
from typing import Any

import pytest
from electionbench import Bench
from hypothesis import given
from hypothesis import strategies as st

import locksmith
from locksmith import ABSENT, names
from locksmith.errors import CellConflict, ConfigurationError, LeaseLost, StoreUnavailable
from locksmith.recipes import places
from locksmith.runtime import drive
from locksmith.testing.faults import Call

PREFIXES = ("", "cell:", "election:", "record:", "run:orders:", "run:report:", "~sha256:", "cell:~sha256:" + "0" * 64)
ANY_NAME = st.builds(
    lambda prefix, text, times: prefix + text * times,
    st.sampled_from(PREFIXES),
    st.text(min_size=1, max_size=4),
    st.sampled_from([1, 1, 60, 250]),
).filter(lambda name: len(name.encode("utf-8", "surrogatepass")) <= names.MAX_BYTES)
KINDS = (
    places.of_cell,
    places.of_election,
    partial(places.of_run, what="orders"),
    partial(places.of_run, what="report"),
    places.of_record,
)


@given(ANY_NAME, ANY_NAME)
def test_no_cell_meets_another(one: str, other: str) -> None:
    """Of whatever kind and name: two things lie in two places, and each place is a name that stores accept."""
    lie = {(kind, name): kind(name) for kind in KINDS for name in (one, other)}
    assert len(set(lie.values())) == len(lie)
    for place in lie.values():
        names.encode(place)


def test_what_merely_looks_shortened_is_shortened() -> None:
    """Or a short name could be chosen to meet a long one."""
    long = "x" * names.MAX_BYTES
    for kind in KINDS[:2]:
        shortened = kind(long)
        assert len(shortened) < 100
        chosen = shortened.partition(":")[2]
        assert kind(chosen) != shortened
    record = places.of_record("record:" + "x" * 1000 + "y" * 17)
    assert places.of_record(record) != record


def test_records_and_cells_of_one_name(bench: Bench) -> None:
    """run_once with a key that looks like a cell's place."""
    calls: list[int] = []
    bench.client.cell("config").put("kept")

    @locksmith.run_once("cell:config", client=bench.client, once_per=60)
    def job() -> None:
        calls.append(1)

    job()
    assert job() is locksmith.SKIPPED
    found = bench.client.cell("config").get()
    assert found is not None
    assert (found.value, calls) == ("kept", [1])


def test_an_update_meets_others_and_tries_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the new value each time; it gives up after so many tries, and has written nothing then."""
    paused: list[float] = []
    monkeypatch.setattr(random, "uniform", lambda least, most: paused.append(most) or 0.0)
    cell, rival = bench.client.cell("c"), bench.rivals.cell("c")
    seen: list[Any] = []

    def meet(value: int) -> int:
        seen.append(value)
        if len(seen) < 4:
            rival.put(10 * len(seen))
        return value + 1

    found = cell.update(meet, default=0)
    assert (seen, found.value) == ([0, 10, 20, 30], 31)
    assert cell.get() == found

    def always_met(value: int) -> int:
        rival.put(value + 1)
        return -1

    paused.clear()
    with pytest.raises(CellConflict, match="5 tries, nothing was written") as conflict:
        cell.update(always_met, tries=5)
    now = cell.get()
    assert now is not None
    assert (now.value, conflict.value.found) == (36, now.version)
    assert paused == sorted(paused)
    assert len(paused) == 4


def test_an_update_raises_what_its_function_raises(bench: Bench) -> None:
    """And writes nothing."""
    cell = bench.client.cell("c")
    with pytest.raises(ZeroDivisionError):
        cell.update(lambda value: 1 // 0)
    with pytest.raises(ConfigurationError):
        cell.update(lambda value: object())
    with pytest.raises(ConfigurationError):
        cell.update(lambda value: value, tries=0)
    assert "put" not in bench.store.verbs()
    assert cell.get() is None


def test_a_lease_guards_cells_of_its_store_alone(bench: Bench) -> None:
    """Of whichever client, but not of another store or namespace; and it must be held."""
    cell = bench.client.cell("c")
    lease = bench.rivals.lock("n").acquire()
    assert cell.put(1, guard=lease) > 0
    with locksmith.connect(f"memory://{uuid.uuid4().hex}") as elsewhere:
        stranger = elsewhere.lock("n").acquire()
        with pytest.raises(ConfigurationError, match="another store"):
            cell.put(2, guard=stranger)
    with pytest.raises(ConfigurationError, match="guard is a lease"):
        cell.put(2, guard="n")  # type: ignore[arg-type]
    assert lease.release()
    before = len(bench.store.calls)
    with pytest.raises(LeaseLost):
        cell.put(2, guard=lease)
    with pytest.raises(LeaseLost):
        cell.delete(guard=lease)
    assert len(bench.store.calls) == before


def test_watching_goes_on_after_an_outage(bench: Bench) -> None:
    """The error is raised, nothing is taken for a deletion, and the same object goes on."""
    cell = bench.client.cell("c")
    version = cell.put("a", expect=ABSENT)
    watch = cell.watch()
    assert [next(watch)] == [cell.get()]
    bench.store.before = bench.broken()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            next(watch)
    bench.heal()
    bench.rivals.cell("c").put("b", expect=version)
    found = next(watch)
    assert found is not None
    assert found.value == "b"


def test_a_watch_of_a_closed_client_ends(bench: Bench) -> None:
    """With ClientClosed, also where the store fails because of it."""
    watch = bench.client.cell("c").watch()
    assert next(watch) is None

    def close(call: Call) -> None:
        bench.heal()
        bench.client.close()
        raise StoreUnavailable("closed under it")

    bench.store.before = close
    with pytest.raises(locksmith.ClientClosed):
        next(watch)
    for ask in (bench.client.cell("c").get, lambda: bench.client.cell("c").put(1), bench.client.cell("c").delete):
        with pytest.raises(locksmith.ClientClosed):
            ask()


def test_a_cell_that_holds_no_json(bench: Bench) -> None:
    """Is an error that says so."""
    drive(bench.store.inner.put(places.of_cell("c"), b"\xff"))
    with pytest.raises(ConfigurationError, match="something else than JSON"):
        bench.client.cell("c").get()
    found = bench.client.cell("c", raw=True).get()
    assert found is not None
    assert found.value == b"\xff"
