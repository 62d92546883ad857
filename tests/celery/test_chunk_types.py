"""Chunks as values: no gap, no overlap half-open or with both ends; nothing endless; there and back through JSON."""

# ruff: noqa: DTZ001 - times without a zone are chunks too

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as some
from kombu.utils import json

from locksmith.celery import BaseChunk, Chunk, ChunkMode, DateChunk, DateTimeChunk, IntChunk, Singleton, chunkify_task
from locksmith.errors import ConfigurationError


def walked(chunk):
    found = []
    while not chunk.is_exhausted:
        found.append(chunk)
        assert len(found) < 3000
        chunk = chunk.next()
    return found


@given(some.integers(-50, 50), some.integers(0, 200), some.integers(1, 50))
def test_between_covers_each_number_once(start, length, size):
    """`pk__range=chunk.range`, with the largest id as max."""
    chunks = walked(Chunk(start, size, start + length))
    assert [n for c in chunks for n in range(c.range[0], c.range[1] + 1)] == list(range(start, start + length + 1))
    assert [n for c in chunks for n in range(c.start, c.end)] == list(range(start, start + length + 1))
    assert all(c.range[1] - c.range[0] < size for c in chunks)


@given(some.integers(0, 200), some.integers(1, 50))
def test_slices_cover_each_row_once(count, size):
    rows = list(range(count))
    chunks = walked(Chunk(0, size, count, ChunkMode.SLICE))
    assert [row for c in chunks for row in rows[c.slice]] == rows


def test_a_max_of_zero_counts():
    assert [c.range for c in walked(Chunk(0, 10, 0))] == [(0, 0)]
    assert walked(Chunk(0, 10, 0, ChunkMode.SLICE)) == []
    assert walked(Chunk(5, 10, 4)) == []


def test_days():
    chunks = walked(DateChunk(date(2024, 2, 27), timedelta(days=2), date(2024, 3, 2)))
    assert [c.range for c in chunks] == [
        (date(2024, 2, 27), date(2024, 2, 28)), (date(2024, 2, 29), date(2024, 3, 1)),
        (date(2024, 3, 2), date(2024, 3, 2)),
    ]  # fmt: skip


def test_moments_leave_no_hole():
    start = datetime(2024, 1, 1)
    chunks = walked(DateTimeChunk(start, timedelta(minutes=1), start + timedelta(minutes=3)))
    assert [c.start for c in chunks] == [start + timedelta(minutes=n) for n in range(4)]
    for before, after in pairwise(chunks):
        assert before.end == after.start
        assert after.range[0] - before.range[1] == timedelta(microseconds=1)
    assert chunks[-1].range == (start + timedelta(minutes=3), start + timedelta(minutes=3))


@pytest.mark.parametrize(
    "chunk",
    [
        IntChunk(0, 10, 100),
        Chunk(start=5, size=1, max=7, mode="slice"),
        DateChunk(date(2024, 1, 1), timedelta(days=3), date(2024, 2, 1)),
        DateTimeChunk(datetime(2024, 1, 1, 0, 0, 0, 1), timedelta(microseconds=1500), datetime(2024, 1, 2)),
        DateTimeChunk(
            datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))), timedelta(1), datetime(2024, 2, 1, tzinfo=UTC)
        ),
    ],
)
def test_there_and_back_through_json(chunk):
    assert type(chunk).of(json.loads(json.dumps(chunk))) == chunk
    assert type(chunk).of(chunk) is chunk
    fields = [chunk.start, chunk.size, chunk.max, chunk.mode]
    assert type(chunk).of(fields) == chunk  # as older messages have it


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: Chunk(0, 10, None), "never end"),
        (lambda: Chunk(0, 0, 10), "at least one"),
        (lambda: Chunk(0, 10, 10, "all"), "mode of a chunk"),
        (lambda: Chunk("0", 10, 10), "whole number|str"),
        (lambda: DateChunk(date(2024, 1, 1), timedelta(hours=1), date(2024, 1, 2)), "whole day"),
        (lambda: DateTimeChunk(datetime(2024, 1, 1), timedelta(0), datetime(2024, 1, 2)), "above zero"),
        (lambda: Chunk.of({"begin": 1}), "is no IntChunk"),
        (lambda: Chunk.of(7), "is no IntChunk"),
        (lambda: chunkify_task(sleep_timeout=-1, initial_chunk=Chunk(0, 1, 1)), "sleep_timeout"),
        (lambda: chunkify_task(sleep_timeout=0, initial_chunk=7), "initial_chunk"),
        (lambda: chunkify_task(sleep_timeout=0, initial_chunk=Chunk(0, 1, 1), max_waiting=-1), "max_waiting"),
        (lambda: chunkify_task(sleep_timeout=0, initial_chunk=Chunk(0, 1, 1), rate="x"), "a rate is"),
        (lambda: chunkify_task(sleep_timeout=0, initial_chunk=Chunk(0, 1, 1))(lambda part: 0), "parameter `chunk`"),
    ],
)
def test_what_cannot_work_is_refused(wrong, why):
    with pytest.raises(ConfigurationError, match=why):
        wrong()


def test_as_a_function_it_runs_the_whole_job_without_a_store():
    seen = []

    @chunkify_task(sleep_timeout=5, initial_chunk=lambda name: Chunk(0, 10, 24))
    def work(chunk, name):
        seen.append((name, chunk.start))
        return chunk.start

    assert work("a") == 20
    assert work("b", chunk=Chunk(20, 10, 24)) == 20
    assert seen == [("a", 0), ("a", 10), ("a", 20), ("b", 20)]
    assert isinstance(Chunk(0, 1, 1), BaseChunk)


def test_eagerly_it_runs_the_whole_job_without_a_store():
    app = Celery("eager", task_always_eager=True)
    seen = []

    @app.task(shared=False, bind=True)
    @chunkify_task(sleep_timeout=5, initial_chunk=Chunk(0, 10, 24))
    def work(self, name, chunk):
        seen.append((name, chunk.start))
        return chunk.start

    assert work.delay("a").get() == 20
    assert work.apply(["b"], {"chunk": {"start": 20, "size": 3, "max": 24}}).get() == 23
    assert seen == [("a", 0), ("a", 10), ("a", 20), ("b", 20), ("b", 23)]
    with pytest.raises(TypeError):
        work.delay()


def test_the_base_is_not_singleton():
    app = Celery("eager", task_always_eager=True)

    @app.task(shared=False, base=Singleton)
    @chunkify_task(sleep_timeout=5, initial_chunk=Chunk(0, 10, 24))
    def work(chunk): ...

    with pytest.raises(ConfigurationError, match="Singleton would fold"):
        work.apply(throw=True)
