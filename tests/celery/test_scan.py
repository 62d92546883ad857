"""Scanners: what a walk enqueues, when the next one begins, and who walks. The broker is one in this process."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager

import pytest
from celery import Celery

import locksmith
from locksmith.celery import RateLimited, Singleton, install, scan
from locksmith.celery.ledger import Place
from locksmith.celery.wiring import wiring_of
from locksmith.metrics import queues
from locksmith.testing.waiting import eventually

pytestmark = pytest.mark.native_threads
SOON = 30.0


@pytest.fixture
def app():
    app = Celery(f"scan-{uuid.uuid4().hex}", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_default_queue = app.main
    with locksmith.connect("memory://", namespace=app.main) as client:
        install(app, client=client)

        @app.task(base=Singleton, shared=False, name="render")
        def render(page, how="plain"): ...

        yield app
    app.close()


def messages(app, queue=None):
    with app.connection_for_read() as connection:
        return queues.look(connection, [queue or app.main])[0].messages


def end(app, *args, **kwargs):
    """As a worker does that has run the call."""
    render = app.tasks["render"]
    ledger, place = wiring_of(app).ledger(), Place(render.key_for(*args, **kwargs), "queue")
    assert ledger.erase_of(place, ledger.read(place).id)


def test_what_is_queued_already_is_not_enqueued_again(app):
    left = [1, 2, 3]

    @scan(every=10, task=app.tasks["render"])
    def pages():
        yield from left

    assert list(pages()) == left
    first, second = pages.walk(), pages.walk()
    assert (first.found, first.enqueued) == (3, 3)
    assert (second.found, second.enqueued) == (3, 0)
    end(app, 2)
    left.remove(2)
    end(app, 3)
    assert pages.walk().enqueued == 1  # 3 is still there: it has ended, and was not done
    assert messages(app) == 4


def test_items_are_arguments_or_signatures(app):
    render = app.tasks["render"]

    @scan(every=10, task=render)
    def pages():
        yield 1
        yield 1, "plain"
        yield {"page": 1, "how": "plain"}
        yield render.s(1, how="plain")
        yield render.s(1).set(queue="other")

    walk = pages.walk()
    assert (walk.found, walk.enqueued) == (5, 1)


def test_what_is_linked_to_an_item_makes_no_message_of_a_duplicate(app):
    render = app.tasks["render"]

    @scan(every=10, app=app)
    def pages():
        yield render.s(1).on_error(render.s(2))

    assert [pages.walk().enqueued, pages.walk().enqueued, messages(app)] == [1, 0, 1]


def test_a_key_of_its_own(app):
    @scan(every=10, task=app.tasks["render"], key="page:{page}")
    def pages():
        yield 1, "plain"
        yield 1, "bold"
        yield 2, "bold"

    assert pages.walk().enqueued == 2
    assert wiring_of(app).ledger().read(Place("page:1", "queue")).state == "queued"


def test_it_stops_while_the_queue_is_deep(app):
    asked = []

    @scan(every=10, task=app.tasks["render"], limit=3)
    def pages():
        for page in range(100):
            asked.append(page)
            yield page

    walk = pages.walk()
    assert (walk.enqueued, walk.deep, messages(app)) == (3, True, 3)
    asked.clear()
    walk = pages.walk()
    assert (walk.found, walk.enqueued, walk.deep, asked) == (0, 0, True, [])
    with app.connection_for_write() as connection:
        connection.default_channel.queue_purge(app.main)
    assert pages.walk().enqueued == 3
    assert messages(app) == 3


def test_what_cannot_be_enqueued_once_is_refused(app):
    @app.task(name="plain", shared=False)
    def plain(): ...

    with pytest.raises(locksmith.ConfigurationError, match="give plain base=Singleton"):
        scan(every=1, task=plain)(lambda: [1]).walk()

    @app.task(name="limited", base=RateLimited, limit="1/s", shared=False)
    def limited(): ...

    with pytest.raises(locksmith.ConfigurationError, match="give limited base=Singleton"):
        scan(every=1, task=limited)(lambda: [1]).walk()
    with pytest.raises(locksmith.ConfigurationError, match="without task= yields signatures"):
        scan(every=1, app=app)(lambda: [1]).walk()
    with pytest.raises(locksmith.ConfigurationError, match="calls of one task each"):
        scan(every=1, app=app)(lambda: [app.tasks["render"].s(1) | app.tasks["render"].s(2)]).walk()
    with pytest.raises(locksmith.ConfigurationError, match="not below every"):
        scan(every=10, idle=1)(list)
    with pytest.raises(locksmith.ConfigurationError, match="needs app="):
        scan(every=10, beat=True)


def test_beat_sends_a_walk_that_never_piles_up(app):
    @scan(every=10, task=app.tasks["render"], name="pages", app=app, beat=True)
    def pages():
        yield 1

    app.finalize()
    (entry,) = app.conf.beat_schedule.values()
    assert (entry["task"], entry["schedule"]) == ("pages", 10)
    first = app.send_task("pages")
    assert app.send_task("pages").id == first.id
    app.tasks["pages"].apply()
    assert messages(app) == 2


@contextmanager
def running(*scanners):
    threads = [threading.Thread(target=scanner.run) for scanner in scanners]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for scanner in scanners:
            scanner.stop()
        for thread in threads:
            thread.join(SOON)
        assert not any(thread.is_alive() for thread in threads)


def test_run_walks_every_so_often_and_one_at_a_time(app):
    walking, walks, overlaps = threading.Lock(), [], []

    def work():
        if not walking.acquire(blocking=False):
            overlaps.append(1)
            return
        walks.append(time.monotonic())
        time.sleep(0.15)  # longer than the period
        yield 1
        walking.release()

    scanners = [scan(every=0.05, task=app.tasks["render"], name="work")(work) for _ in range(2)]
    with running(*scanners):
        eventually(lambda: len(walks) >= 4, within=SOON, what="four walks")
        assert scanners[0].walk() is None, "a process that leads keeps walks elsewhere out"
    assert not overlaps
    assert messages(app) == 1


def test_another_takes_over_when_the_leader_stops(app):
    walks = []

    def made(name):
        def work():
            walks.append(name)
            return []

        return scan(every=0.05, task=app.tasks["render"], name="work")(work)

    first, second = made("first"), made("second")
    with running(first):
        eventually(lambda: walks, within=SOON)
        with running(second):
            first.stop()
            eventually(lambda: "second" in walks, within=SOON, what="the second walks")


def test_idle_it_rests_until_it_is_woken(app):
    walks = []

    @scan(every=60, task=app.tasks["render"])
    def pages():
        walks.append(1)
        return []

    with running(pages):
        eventually(lambda: walks, within=SOON)
        pages.wake()
        eventually(lambda: len(walks) >= 2, within=SOON, what="it walks because it was woken")


def test_a_leader_that_was_deposed_while_it_rested_stands_again_at_once(app):
    walks = []

    @scan(every=600, ttl=1, task=app.tasks["render"])
    def pages():
        walks.append(1)
        return []

    with running(pages):
        eventually(lambda: walks, within=SOON)
        client = pages.client()
        assert client.evict(pages.place, client.inspect(pages.place).holders[0].token)
        eventually(lambda: len(walks) >= 2, within=SOON, what="it was elected again, and walks")


def test_pauses_grow_while_there_is_no_work(app):
    @scan(every=10, task=app.tasks["render"])
    def pages(): ...

    from locksmith.celery.walking import Walk

    pause, idle = pages.every, []
    for _ in range(4):
        pause = pages._next_pause(pause, Walk())
        idle.append(pause)
    assert idle == [20, 40, 60, 60]
    assert pages._next_pause(60, Walk(found=1)) == 10, "what is queued or runs may have to come back"
    assert pages._next_pause(60, Walk(deep=True)) == 10
    assert pages._next_pause(20, None) == 40


def test_what_the_function_raises_is_logged_and_the_next_walk_tries_again(app, caplog):
    walks = []

    @scan(every=0.05, task=app.tasks["render"])
    def pages():
        walks.append(1)
        if len(walks) == 1:
            raise OSError("the database is away")
        yield 1

    with running(pages):
        eventually(lambda: messages(app), within=SOON)
    assert "the database is away" in caplog.text


def test_stopping_in_the_middle_of_a_walk(app):
    gone, kept = threading.Event(), []

    def work():
        try:
            for page in range(10**9):
                yield page % 3
        finally:
            gone.set()

    @scan(every=60, task=app.tasks["render"])
    def pages():
        kept.append(work())  # it is not the collector that closes it
        return kept[0]

    with running(pages):
        eventually(lambda: messages(app) == 3, within=SOON)
    assert gone.is_set(), "the generator was closed"
