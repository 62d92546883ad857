"""Orders of people and reports of beats; `locksmith beat` in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import locksmith
from locksmith.celery.beat.book import Book, Line, page_of
from locksmith.celery.beat.notices import ELECTION, Notices, Orders, Report, election_of
from locksmith.errors import LeaseLost

pytestmark = pytest.mark.native_threads


@pytest.fixture
def store(tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/locks.db"


@pytest.fixture
def client(store: str) -> Iterator[locksmith.Client]:
    with locksmith.connect(store) as client:
        yield client


def beat(store: str, *words: str) -> Any:
    command = [sys.executable, "-m", "locksmith", "beat", *words]
    environment = {**os.environ, "LOCKSMITH_URL": store}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60
    )


def test_orders_are_changed_by_several_people_at_once(client: locksmith.Client) -> None:
    notices = Notices(client, "s")
    late: list[int] = []

    def change(was: Orders) -> Orders:
        if not late:  # somebody else comes first
            late.append(1)
            notices.order(lambda other: replace(other, paused=("a",)))
        return replace(was, reload=was.reload + 1)

    notices.order(change)
    assert notices.orders()[0] == Orders(paused=("a",), reload=1)


def test_a_report_of_a_former_leader_is_refused(client: locksmith.Client) -> None:
    notices = Notices(client, "s")
    lease = client.lock("beat").acquire()
    report = Report(lease.token, "name", 1.0, 2, 3, 0.5, due=((2.0, "e"),))
    notices.tell(report, lease)
    assert notices.report() == report
    lease.release()
    with pytest.raises(LeaseLost):
        notices.tell(replace(report, sent=4), lease)
    assert notices.report() == report


def test_nobody_leads(store: str) -> None:
    done = beat(store, "status", "--schedule", "s")
    assert (done.returncode, done.stdout) == (1, "s: nobody leads, 0 standing by\n")
    assert beat(store, "handover", "--schedule", "s").stdout == "s: nobody leads\n"
    done = beat(store, "status")
    assert done.returncode == 2
    assert "Say --schedule; no beat runs here" in done.stderr


def test_status_and_lists(store: str, client: locksmith.Client) -> None:
    Book(client, "s").change(page_of("e"), Book(client, "s").read(page_of("e")), lambda _: {"e": Line(5, 7)}, None)
    with client.election(f"{ELECTION}s").campaign(note="the first") as lead:
        Notices(client, "s").tell(Report(lead.token, "the first", 1.0, 2, 3, 0.5, due=((2.0, "e"),)), lead)
        said = beat(store, "status").stdout
        assert said.startswith("s: the first (")
        assert said.endswith(" 0 standing by; 2 entries, 3 fires sent, the latest 0.500 s late\n")
        (told,) = json.loads(beat(store, "status", "--json").stdout)["shares"]
        assert (told["leader"]["name"], told["report"]["term"]) == ("the first", lead.token)
        assert json.loads(beat(store, "next", "--json").stdout) == [{"entry": "e", "at": 2.0}]
        listed = [{"entry": "e", "last": 5e-06, "count": 7, "open": 0, "paused": False}]
        assert json.loads(beat(store, "ls", "--json").stdout) == listed


def test_a_share_that_nobody_leads_is_seen(store: str, client: locksmith.Client) -> None:
    with client.election(election_of("s", 1, 2)).campaign(note="the second"):
        done = beat(store, "status")
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == "s, share 0 of 2: nobody leads, 0 standing by"
    assert second.startswith("s, share 1 of 2: the second (")


def test_pause_add_and_remove(store: str, client: locksmith.Client) -> None:
    notices = Notices(client, "s")
    at = ("--schedule", "s")
    assert beat(store, "pause", "a", "b", *at).returncode == 0
    assert beat(store, "resume", "a", *at).returncode == 0
    assert beat(store, "add", "e", "tasks.t", "--crontab", "*/5 * * * mon", "--args", "[1]", *at).returncode == 0
    assert notices.orders()[0].paused == ("b",)
    assert notices.orders()[0].added["e"]["schedule"] == "*/5 * * * mon"
    assert beat(store, "rm", "e", *at).returncode == 0
    assert beat(store, "reload", *at).returncode == 0
    assert notices.orders()[0] == Orders(paused=("b",), reload=1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add", "e", "t"), "either --every or --crontab"),
        (("add", "e", "t", "--every", "-1"), "seconds, not -1"),
        (("add", "e", "t", "--crontab", "* * *"), "five fields"),
        (("add", "e", "t", "--crontab", "61 * * * *"), "five fields"),
        (("add", "e", "t", "--every", "1", "--args", "{}"), "JSON array"),
        (("rm", "e"), "was not added"),
    ],
)
def test_what_cannot_work_is_refused_and_ordered_nowhere(
    store: str, client: locksmith.Client, words: tuple[str, ...], says: str
) -> None:
    done = beat(store, *words, "--schedule", "s")
    assert done.returncode == 2
    assert says in done.stderr
    assert Notices(client, "s").orders() == (Orders(), 0)
