"""Ranges: no gap, no overlap, at any step and resolution, whatever the clocks do; and what JSON brings back."""

from __future__ import annotations

# ruff: noqa: DTZ001, DTZ901 - times without a zone are ranges too
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from locksmith import positions
from locksmith.errors import ConfigurationError
from locksmith.recipes.ranges import dates, datetimes, ints

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = some.sampled_from([None, UTC, BERLIN, ZoneInfo("Australia/Lord_Howe"), timezone(timedelta(hours=-3.5))])


def walked(walk, most=2000):
    """All chunks of a walk, as users see them; every place makes the journey through JSON."""
    walk = walk.planned(json.loads(json.dumps(walk.plan())))
    place, found, total = json.loads(json.dumps(walk.first())), [], 0.0
    while (step := walk.after(place)) is not None:
        start, place, much = json.loads(json.dumps(step))
        total += much
        found.append((walk.value(start), walk.value(place)))
        assert len(found) <= most
    assert total == pytest.approx(walk.total())
    return found


def check(found, start, end, size):
    """They begin at the start, end at the end, follow each other, and none is empty or longer than it should be."""
    if not found:
        assert start >= end
        return
    assert found[0][0] == start
    assert found[-1][1] == end
    for (_, before), (after, _) in pairwise(found):
        assert before == after
    for first, last in found:
        assert first < last
        assert last - first <= size
    assert all(last - first == size for first, last in found[:-1])


@given(some.integers(-(10**30), 10**30), some.integers(-5, 300), some.integers(1, 400))
def test_ints(start, length, size):
    found = walked(ints(start, start + length, size=size))
    check(found, start, start + length, size)
    assert [number for chunk in found for number in range(*chunk)] == list(range(start, start + length))


@given(some.dates(), some.integers(-5, 300), some.integers(1, 40))
def test_dates(start, length, size):
    end = date.fromordinal(min(start.toordinal() + length, date.max.toordinal())) if start.year > 1 else start
    walk = dates(start, end, size=size)
    found = walked(walk)
    check(found, start, end, timedelta(days=size))
    place, days = walk.first(), []
    while (step := walk.after(place)) is not None:
        days.extend(walk.items(*step[:2]))
        place = step[1]
    assert [day.toordinal() for day in days] == list(range(start.toordinal(), end.toordinal()))


@settings(max_examples=300)
@given(
    some.datetimes(datetime(1, 1, 3), datetime(9999, 12, 20)),
    some.integers(-10, 10**12),
    some.integers(2, 60),
    ZONES,
    some.booleans(),
)
def test_datetimes(wall, micros, parts, zone, fold):
    """From microseconds to days, with and without a zone."""
    start = wall.replace(tzinfo=zone, fold=fold)
    length, size = timedelta(microseconds=micros), timedelta(microseconds=max(1, micros // parts))
    end = start.astimezone(UTC) + length if zone else start.replace(fold=0) + length
    start = start.astimezone(UTC) if zone else start
    check(walked(datetimes(wall.replace(tzinfo=zone, fold=fold), end, size=size)), start, end, size)


@given(some.integers(0, 4 * 3600 * 10**6), some.sampled_from([1, 7, 10, 20, 30, 45, 60]))
def test_every_moment_of_the_nights_in_which_the_clocks_change(micros, minutes):
    """Also the hour that there is twice: a moment, given in its zone, lies in exactly one chunk."""
    for begins in (datetime(2024, 3, 30, 23, tzinfo=UTC), datetime(2024, 10, 26, 23, tzinfo=UTC)):
        start, end = begins.astimezone(BERLIN), (begins + timedelta(hours=4)).astimezone(BERLIN)
        found = walked(datetimes(start, end, size=timedelta(minutes=minutes)))
        moment = (begins + timedelta(microseconds=micros)).astimezone(BERLIN)
        inside = [chunk for chunk in found if chunk[0] <= moment < chunk[1]]
        assert len(inside) == (micros < 4 * 3600 * 10**6)
        assert sum((last - first for first, last in found), timedelta()) == timedelta(hours=4)


def test_the_last_moments_of_the_calendar():
    found = walked(datetimes(datetime(9999, 12, 31), datetime.max, size=timedelta(hours=20)))
    assert found == [
        (datetime(9999, 12, 31), datetime(9999, 12, 31, 20)),
        (datetime(9999, 12, 31, 20), datetime.max),
    ]
    assert walked(dates(date(9999, 12, 30), date.max, size=9)) == [(date(9999, 12, 30), date.max)]


@pytest.mark.parametrize(
    "walk",
    [
        ints(0, 0, size=1),
        ints(5, 4, size=1),
        dates(date(2024, 1, 1), date(2024, 1, 1)),
        datetimes(datetime(2024, 1, 2), datetime(2024, 1, 1), size=timedelta(1)),
    ],
)
def test_an_empty_range_has_no_chunk(walk):
    assert walked(walk) == []
    assert walk.total() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ints(0, 10, size=0),
        lambda: ints(0, 10.5, size=1),
        lambda: ints(True, 10, size=1),
        lambda: dates(date(2024, 1, 1), date(2024, 2, 1), size=timedelta(hours=36)),
        lambda: dates(datetime(2024, 1, 1), date(2024, 2, 1)),
        lambda: datetimes(date(2024, 1, 1), datetime(2024, 2, 1), size=timedelta(1)),
        lambda: datetimes(datetime(2024, 1, 1), datetime(2024, 2, 1, tzinfo=UTC), size=timedelta(1)),
        lambda: datetimes(datetime(2024, 1, 1), datetime(2024, 2, 1), size=timedelta(0)),
        lambda: positions.dump(object()),
        lambda: positions.dump(True),
        lambda: positions.load({"moon": "full"}),
    ],
)
def test_what_makes_no_range_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        wrong()


VALUES = some.one_of(
    some.integers(), some.text(), some.dates(), some.datetimes(timezones=some.just(UTC)), some.datetimes(),
    some.uuids(), some.binary(), some.decimals(allow_nan=False, allow_infinity=False),
)  # fmt: skip


@given(some.one_of(VALUES, some.tuples(VALUES, VALUES)))
def test_places_come_back_as_they_were(value):
    back = positions.load(json.loads(json.dumps(positions.dump(value))))
    assert back == value
    assert type(back) is type(value)


def test_places_of_a_zone_come_back_as_the_same_moment():
    told = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)
    assert positions.load(positions.dump(told)) == datetime(2024, 10, 27, 1, 30, tzinfo=UTC)
    assert positions.dump([1, UUID(int=7), Decimal("1.50")]) == [
        1, {"uuid": "00000000-0000-0000-0000-000000000007"}, {"decimal": "1.50"},
    ]  # fmt: skip
