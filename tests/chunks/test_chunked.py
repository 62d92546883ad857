"""@chunked: functions, generators and their async kinds; keys, retries, pacing, and what is refused."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from locksmith import ChunkFailed, ConfigurationError, chunked, current_lease
from locksmith.chunks import Job, dates, datetimes, ints, jobs

TEN = ints(0, 10, size=4)


def test_a_function_gets_each_chunk(client):
    seen = []

    @chunked("job", over=TEN, client=client)
    def work(chunk):
        assert current_lease().token == chunk.token == chunk.lease.token
        seen.append((chunk.number, chunk.start, chunk.end, list(chunk), chunk.tries))

    progress = work()
    assert seen == [(0, 0, 4, [0, 1, 2, 3], 1), (1, 4, 8, [4, 5, 6, 7], 1), (2, 8, 10, [8, 9], 1)]
    assert (progress.name, progress.state, progress.done, progress.here, progress.fraction) == ("job", "done", 3, 3, 1)
    assert work().here == 0
    assert len(seen) == 3
    assert current_lease() is None


def test_a_generator_gives_what_it_yields(client):
    @chunked("job", over=TEN, client=client)
    def work(chunk):
        """Items."""
        for number in chunk:
            assert current_lease() is not None
            yield number * 2

    assert inspect.isgeneratorfunction(work)
    assert work.__doc__ == "Items."
    items = work()
    assert next(items) == 0
    assert current_lease() is None
    assert work.job().progress().running == 1
    assert list(items) == list(range(2, 20, 2))
    assert list(work()) == []


def test_a_generator_that_is_closed_leaves_its_chunk_to_the_next(client):
    @chunked("job", over=TEN, client=client)
    def work(chunk):
        yield from chunk

    items = work()
    assert [next(items) for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    items.close()
    assert work.job().progress().done == 1
    assert list(work()) == [4, 5, 6, 7, 8, 9]


def test_arguments_stay_and_make_the_key(client):
    seen = []

    class Table:
        def __init__(self, name):
            self.name = name

        @chunked("index:{self.name}:{depth}", over=lambda self, depth=1: ints(0, depth * 2, size=2), client=client)
        def index(self, chunk, depth=1):
            seen.append((self.name, chunk.start, depth))

    assert str(inspect.signature(Table.index)) == "(self, depth=1)"
    users = Table("users")
    assert users.index().name == "index:users:1"
    users.index(depth=2)
    Table("items").index(2)
    users.index(1)
    assert seen == [("users", 0, 1), ("users", 0, 2), ("users", 2, 2), ("items", 0, 2), ("items", 2, 2)]
    assert Table.index.key(users, 3) == "index:users:3"
    with pytest.raises(TypeError, match="nothing"):
        users.index(nothing=1)
    assert list(jobs(client)) == ["index:items:2", "index:users:1", "index:users:2"]
    assert list(jobs(client, "index:i")) == ["index:items:2"]


def test_without_a_template_all_arguments_count(client):
    seen = []

    @chunked(over=TEN, client=client)
    def work(table, *, chunk, fast=False):
        seen.append(table)

    work("a")
    work(table="a", fast=False)
    work("b")
    assert seen == ["a"] * 3 + ["b"] * 3


def test_the_store_is_found_when_it_is_called(store, monkeypatch):
    @chunked("job", over=TEN)
    def work(chunk): ...

    with pytest.raises(ConfigurationError, match="LOCKSMITH_URL"):
        work()
    monkeypatch.setenv("LOCKSMITH_URL", store)
    assert work().done == 3


def test_days_and_moments(client):
    days, moments = [], []

    @chunked("days", over=dates(date(2024, 2, 27), date(2024, 3, 3), size=3), client=client)
    def by_day(chunk):
        days.append([day.day for day in chunk])
        assert chunk.start in chunk
        assert chunk.end not in chunk

    begins = datetime(2024, 1, 1, tzinfo=UTC)

    @chunked("moments", over=datetimes(begins, begins + timedelta(hours=5), size=timedelta(hours=2)), client=client)
    def by_hour(chunk):
        moments.append(chunk.end - chunk.start)
        with pytest.raises(ConfigurationError, match="cannot be iterated"):
            iter(chunk)

    by_day()
    by_hour()
    assert days == [[27, 28, 29], [1, 2]]
    assert moments == [timedelta(hours=2), timedelta(hours=2), timedelta(hours=1)]


def test_an_exception_retries_the_chunk_and_not_the_job(client):
    tried = []

    @chunked("job", over=TEN, client=client, retries=2, retry_pause=0.01)
    def work(chunk):
        tried.append((chunk.number, chunk.tries))
        if chunk.number == 1 and chunk.tries < 3:
            raise OSError("not yet")

    assert work().state == "done"
    assert tried == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]


def test_a_chunk_that_keeps_failing_stops_the_job_until_it_is_called_again(client):
    broken, done = [True], []

    @chunked("job", over=TEN, client=client, retries=1, retry_pause=0.01)
    def work(chunk):
        if chunk.number == 1 and broken:
            raise KeyError("x")
        done.append(chunk.number)

    with pytest.raises(KeyError):
        work()
    progress = work.job().progress()
    assert (progress.state, progress.done, progress.running) == ("failed", 1, 1)
    assert progress.error == "chunk 1 raised KeyError: 'x'"
    broken.clear()
    assert work().state == "done"
    assert done == [0, 1, 2]


def test_others_learn_that_the_job_has_stopped(client):
    at_work, go_on = threading.Event(), threading.Event()

    job = chunked("job", over=TEN, client=client, retries=0)(lambda chunk: _other(at_work, go_on))
    raised = []

    def other():
        try:
            job()
        except ChunkFailed as error:
            raised.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    assert at_work.wait(30)

    @chunked("job", over=TEN, client=client, retries=0)
    def failing(chunk):
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        failing()
    go_on.set()
    thread.join(30)
    assert "has stopped: chunk 1 raised OSError: no" in str(raised[0])


def _other(at_work, go_on):
    at_work.set()
    assert go_on.wait(30)


def test_steering_from_elsewhere(client):
    job = Job(client, "job")

    @chunked("job", over=TEN, client=client)
    def work(chunk):
        if chunk.number == 1:
            job.cancel()

    progress = work()
    assert (progress.state, progress.done, progress.here) == ("cancelled", 2, 2)
    assert job.forget()
    assert job.progress() is None
    assert work().state == "cancelled"


def test_what_is_over_is_forgotten_after_keep(client):
    @chunked("job", over=TEN, client=client, keep=0.2)
    def work(chunk): ...

    assert work().here == 3
    until = time.monotonic() + 30
    while work.job().progress() is not None:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert work().here == 3


# Pacing.


def test_a_rate_for_all_processes_together(client):
    began = time.monotonic()

    @chunked("job", over=ints(0, 6, size=1), client=client, rate="10/s")
    def work(chunk): ...

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert work.job().progress().state == "done"
    assert time.monotonic() - began >= 0.49  # six of them, a tenth of a second apart


def test_a_pause_between_chunks(client):
    times = []

    @chunked("job", over=TEN, client=client, pause=0.1)
    def work(chunk):
        times.append(time.monotonic())

    work()
    assert all(after - before >= 0.09 for before, after in pairwise(times))


def test_nothing_is_begun_while_a_queue_is_deep(client, monkeypatch):
    monkeypatch.setattr("locksmith.adapters.chunk_calls._ASKED", 0.01)
    queue, asked = [], []

    def deep():
        asked.append(len(queue))
        if len(asked) % 3 == 0:
            del queue[:]
        return len(queue) > 5

    @chunked("job", over=TEN, client=client, hold_while=deep)
    def work(chunk):
        assert len(queue) <= 5
        queue.extend(range(6))

    assert work().state == "done"
    assert any(length > 5 for length in asked)


# Asyncio.


def test_async_functions_and_generators(store):
    seen = []

    @chunked("job:{who}", over=TEN, store=store, retry_pause=0.01)
    async def work(who, chunk):
        await asyncio.sleep(0)
        assert current_lease().token == chunk.token
        if chunk.number == 1 and chunk.tries == 1:
            raise OSError("not yet")
        seen.extend(chunk)

    @chunked("items", over=TEN, store=store)
    async def items(chunk):
        for number in chunk:
            await asyncio.sleep(0)
            assert current_lease() is not None
            yield number

    async def main():
        first, second = await asyncio.gather(work("a"), work("a"))
        assert (first.state, second.state) == ("done", "done")
        assert first.here + second.here == 3
        assert sorted(seen) == list(range(10))
        whole = items()
        found = [await anext(whole) for _ in range(5)]
        assert found == [0, 1, 2, 3, 4]
        await whole.aclose()
        again = [number async for number in items()]
        assert again == [4, 5, 6, 7, 8, 9]
        job = await items.job()
        assert (await job.progress()).state == "done"
        assert await job.forget()

    asyncio.run(main())
    assert inspect.iscoroutinefunction(work)
    assert inspect.isasyncgenfunction(items)


def test_a_cancelled_task_leaves_its_chunk_to_the_next(store):
    seen = []

    @chunked("job", over=TEN, store=store)
    async def work(chunk, gate=None):
        if gate is not None:
            gate.set()
            await asyncio.sleep(3600)
        seen.append((chunk.number, chunk.tries))

    async def main():
        gate = asyncio.Event()
        task = asyncio.create_task(chunked("job", over=TEN, store=store)(work.__wrapped__)(gate))
        await gate.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await work()).state == "done"

    asyncio.run(main())
    assert seen == [(0, 2), (1, 1), (2, 1)]


# What is refused.


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: chunked("x", over=range(10))(lambda chunk: 0), "over= is a range"),
        (lambda: chunked("x", over=TEN)(lambda part: 0), "in its parameter `chunk`"),
        (lambda: chunked("x", over=TEN)(lambda **chunk: 0), "in its parameter `chunk`"),
        (lambda: chunked("x:{chunk}", over=TEN)(lambda chunk: 0), "chunk"),
        (lambda: chunked("x", over=TEN, at_most=0), "at_most"),
        (lambda: chunked("x", over=TEN, retries=-1), "retries"),
        (lambda: chunked("x", over=TEN, pause=-1), "pause"),
        (lambda: chunked("x", over=TEN, rate="often"), "a rate is"),
        (lambda: chunked("x", over=TEN, hold_while=True), "hold_while"),
        (lambda: chunked("x", over=TEN, keep=0), "keep"),
        (lambda: chunked("x", over=TEN)(int), "decorates functions"),
        (chunked("x", over=lambda: [1], store="memory://wrong")(lambda chunk: 0), "which is no range"),
    ],
)
def test_what_cannot_work_is_refused(wrong, why):
    with pytest.raises(ConfigurationError, match=why):
        wrong()


def test_a_plain_function_that_returns_a_coroutine_is_refused(client):
    async def inner(): ...

    @chunked("job", over=TEN, client=client, retries=0)
    def work(chunk):
        return inner()

    with pytest.raises(ConfigurationError, match="make it async"):
        work()


def test_the_lease_is_lost_in_the_middle_of_a_generator(client, caplog):
    """No item more is given for that chunk, and another one of the job does it again."""

    @chunked("job", over=TEN, client=client)
    def work(chunk):
        yield from chunk

    items = work()
    assert next(items) == 0
    (name,) = [name for name in client.names() if "job" in name]
    (holder,) = client.inspect(name).holders
    client.evict(name, holder.token)
    rest = list(items)
    assert rest == [1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9] or rest[-10:] == list(range(10))
    assert work.job().progress().done == 3
    assert "whoever takes it over does it again" in caplog.text
