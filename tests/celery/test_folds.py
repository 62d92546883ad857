"""How many calls were folded into which, and the list of all keys."""

from __future__ import annotations

import threading

import pytest
from celery import chain
from celerytasks import add, entry, same, task

from locksmith.celery import clear_locks
from locksmith.celery.entries import Entry, here
from locksmith.celery.folds import Folds, added, counts
from locksmith.celery.ledger import Place
from locksmith.celery.wiring import wiring_of
from locksmith.errors import StoreUnavailable
from locksmith.testing.waiting import eventually

pytestmark = pytest.mark.native_threads


def folded(app, one, *args):
    place = Place(one.key_for(*args), "queue")
    return wiring_of(app).ledger().folded(place, entry(app, place.key))


def test_duplicates_are_counted_and_told_by_themselves(app):
    one = task(app, add, name="one")
    one.delay(1)
    two = one.delay(2)
    for _ in range(5):
        one.delay(1)
    one.apply_async([1], singleton={"on_duplicate": "skip"})
    chain(one.s(1), one.si(3)).delay()
    assert folded(app, one, 2) == 0
    eventually(lambda: folded(app, one, 1) == 7, within=40, what="the count is told")
    assert one.delay(2).id == two.id
    eventually(lambda: folded(app, one, 2) == 1, within=40, what="and again")


def test_counts_are_of_one_call(app):
    one = task(app, add, name="one")
    first = one.delay(1)
    one.delay(1)
    ledger = wiring_of(app).ledger()
    ledger.folds.tell()
    assert folded(app, one, 1) == 1
    ledger.erase_of(Place(one.key_for(1), "queue"), first.id)
    one.delay(1)
    assert folded(app, one, 1) == 0


def test_counts_of_several_processes_add_up():
    raw = None
    for number in range(20):
        raw = added(raw, {"a": 2, f"x{number}": 1})
    assert counts(raw)["a"] == 40
    assert len(counts(raw)) < 20
    assert counts(b"something else") == {}


def test_a_store_that_is_away_costs_the_count_and_nothing_else():
    asked = threading.Event()

    def tell(key, told):
        asked.set()
        raise StoreUnavailable("down")

    folds = Folds(tell)
    folds.add("k", "id")
    assert asked.wait(40)
    folds.tell()


def test_all_keys_are_listed_also_long_ones(app):
    one = task(app, add, name="one", singleton_key="{a}")
    keys = ["short", "x" * 700, "Straße/{}*:" * 30, "~sha256:" + "0" * 64]
    for key in keys:
        one.delay(key)
    held = dict(wiring_of(app).ledger().held())
    assert sorted(place.key for place in held) == sorted(map(one.key_for, keys))
    assert {place.what for place in held} == {"queue"}
    for key in keys:
        assert one.delay(key).id == entry(app, one.key_for(key)).id


def test_clear_locks(app):
    one = task(app, add, name="one")
    two = task(app, same, name="two", max_queued=2)
    first, *_ = one.delay(1), one.delay(2), two.delay(1), two.delay(1)
    ledger = wiring_of(app).ledger()
    ledger.write(Place("another", "queue"), Entry("id", "of.another.app", "queued", here(), 1.0), None)
    assert clear_locks(app) == 4
    assert [place.key for place, _ in ledger.held()] == ["another"]
    assert one.delay(1).id != first.id
    assert clear_locks(app) == 1
