"""When entries are due: the same moments whoever asks, over changes of the clocks, too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedule, solar
from hypothesis import given, settings
from hypothesis import strategies as st

from locksmith.celery.beat.moments import SECOND, micros, moments_of, when

NEW_YORK = ZoneInfo("America/New_York")
APP = Celery("moments", set_as_current=False)
APP.conf.timezone = "America/New_York"


def moment(text: str) -> int:
    return micros(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK))


def fires(cron: Any, begin: str, end: str) -> list[str]:
    found = moments_of(cron).between(moment(begin), moment(end))
    return [when(each).astimezone(NEW_YORK).strftime("%d %H:%M %Z") for each in found]


def cron(**fields: Any) -> Any:
    return crontab(**fields, app=APP)


# Clocks are put back on 2026-11-01 at 02:00 and forward on 2026-03-08 at 02:00.


def test_an_entry_for_every_hour_fires_in_both_of_two_equal_hours() -> None:
    """Celery skips the second one (celery#10107)."""
    hourly = fires(cron(minute=0), "2026-11-01T00:00", "2026-11-01T03:00")
    assert hourly == ["01 01:00 EDT", "01 01:00 EST", "01 02:00 EST", "01 03:00 EST"]
    half_hourly = fires(cron(minute="*/30"), "2026-11-01T00:30", "2026-11-01T02:00")
    assert half_hourly == ["01 01:00 EDT", "01 01:30 EDT", "01 01:00 EST", "01 01:30 EST", "01 02:00 EST"]


def test_an_entry_that_names_its_hours_fires_in_the_first_of_two_equal_ones() -> None:
    daily = fires(cron(minute=30, hour=1), "2026-10-31T00:00", "2026-11-02T12:00")
    assert daily == ["31 01:30 EDT", "01 01:30 EDT", "02 01:30 EST"]


def test_an_entry_whose_time_is_left_out_fires_as_long_after_the_change() -> None:
    daily = fires(cron(minute=30, hour=2), "2026-03-07T00:00", "2026-03-09T12:00")
    assert daily == ["07 02:30 EST", "08 03:30 EDT", "09 02:30 EDT"]


def test_what_a_left_out_hour_moves_onto_another_time_of_the_entry_is_one_fire() -> None:
    assert fires(cron(minute=0, hour="2,3"), "2026-03-08T00:00", "2026-03-08T12:00") == ["08 03:00 EDT"]


def test_an_entry_for_every_hour_has_nothing_to_catch_up_after_a_left_out_one() -> None:
    hourly = fires(cron(minute=0), "2026-03-08T00:00", "2026-03-08T05:00")
    assert hourly == ["08 01:00 EST", "08 03:00 EDT", "08 04:00 EDT", "08 05:00 EDT"]


def test_a_day_that_was_left_out_is_not_fired_twice() -> None:
    """Samoa had no 2011-12-30: what was due then falls upon the times of the next day."""
    apia = ZoneInfo("Pacific/Apia")
    entry = cron(minute=0, hour=10)
    entry.tz = apia
    begin, end = (micros(datetime(*day, tzinfo=apia)) for day in ((2011, 12, 29), (2012, 1, 1)))
    found = [when(each).astimezone(apia).strftime("%d %H:%M") for each in moments_of(entry).between(begin, end)]
    assert found == ["29 10:00", "31 10:00"]


def test_every_field_of_a_crontab_counts() -> None:
    mondays = cron(minute=0, hour=9, day_of_week="mon", month_of_year=6)
    assert fires(mondays, "2026-05-25T00:00", "2026-06-15T12:00") == ["01 09:00 EDT", "08 09:00 EDT", "15 09:00 EDT"]
    leap = moments_of(cron(minute=0, hour=0, day_of_month=29, month_of_year=2, day_of_week="mon"))
    found = leap.after(moment("2026-01-01T00:00"))
    assert found is not None
    assert when(found).astimezone(NEW_YORK).date().isoformat() == "2044-02-29"


def test_an_interval_is_counted_from_where_it_began_and_costs_nothing_however_long_ago() -> None:
    moments = moments_of(schedule(timedelta(seconds=1.5), app=APP))
    assert moments.after(7) == 7 + 1_500_000
    missed = moments.between(0, 10**9 * SECOND)
    assert len(missed) == 10**9 // 3 * 2
    assert missed[-1] <= 10**9 * SECOND < missed[-1] + 1_500_000


def test_a_rounded_interval_is_as_celery_rounds_it() -> None:
    moments = moments_of(schedule(timedelta(hours=1), relative=True, app=APP))
    found = moments.after(moment("2026-05-01T10:20"))
    assert found == moment("2026-05-01T11:00")


def test_the_sun_rises_once_a_day() -> None:
    sunrise = moments_of(solar("sunrise", 40.7, -74.0, app=APP))
    begin = moment("2026-06-01T00:00")
    found = [when(each).astimezone(NEW_YORK) for each in sunrise.between(begin, begin + 5 * 86_400 * SECOND)]
    assert [each.day for each in found] == [1, 2, 3, 4, 5]
    assert {each.hour for each in found} == {5}


def test_a_schedule_of_ones_own_is_asked_as_if_it_were_that_time() -> None:
    class Fridays(BaseSchedule):
        def remaining_estimate(self, last_run_at: datetime) -> timedelta:
            now = self.now()
            return (now + timedelta(days=(4 - now.weekday()) % 7 or 7)) - now

    moments = moments_of(Fridays(app=APP))
    begin = datetime(2026, 11, 21, 8, tzinfo=UTC)  # a Saturday
    found = moments.between(micros(begin), micros(begin + timedelta(days=14)))
    assert [when(each).isoformat()[:10] for each in found] == ["2026-11-27", "2026-12-04"]


CRONS = st.builds(
    cron,
    minute=st.sampled_from(["*", "*/7", "0", "30", "15,45"]),
    hour=st.sampled_from(["*", "*/2", "1,2,3", "2", "0,23"]),
    day_of_week=st.sampled_from(["*", "sun", "mon-fri"]),
)
SCHEDULES = CRONS | st.builds(lambda s: schedule(timedelta(seconds=s), app=APP), st.integers(600, 90_000))
AROUND = st.sampled_from(["2026-03-06T00:00", "2026-10-30T00:00", "2026-06-01T12:34"]).map(moment)


@settings(deadline=None, max_examples=60)
@given(SCHEDULES, AROUND, st.integers(1, 4 * 86_400), st.data())
def test_the_moments_are_the_same_wherever_one_begins_to_look(entry: Any, begin: int, long: int, data: Any) -> None:
    moments, end = moments_of(entry), begin + long * SECOND
    found = list(moments.between(begin, end))
    assert found == sorted(set(found))
    step, stepped = moments.after(begin), []
    while step is not None and step <= end:
        stepped.append(step)
        step = moments.after(step)
    assert stepped == found
    if found:  # a beat always looks from a moment that it dealt with
        cut = data.draw(st.sampled_from(found))
        assert [*moments.between(begin, cut), *moments.between(cut, end)] == found


@pytest.mark.parametrize("text", ["2026-11-01T01:30", "1999-12-31T23:59"])
def test_moments_are_datetimes_and_back(text: str) -> None:
    assert micros(when(moment(text))) == moment(text)
