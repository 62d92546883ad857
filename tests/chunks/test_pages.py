"""Keyset pages: each row once, whatever is inserted and deleted meanwhile, and never an OFFSET."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from locksmith import chunked
from locksmith.errors import ConfigurationError
from locksmith_sql.pages import pages

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC).replace(tzinfo=None)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    team: Mapped[str]
    name: Mapped[str]
    active: Mapped[bool] = mapped_column(default=True)


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/data.db")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        ids = list(range(1, 101))
        random.Random(7).shuffle(ids)
        session.add_all(User(id=n * 3, team=f"t{n % 4}", name=f"user {n}", active=n % 5 != 0) for n in ids)
        session.commit()
    yield engine
    engine.dispose()


def all_of(walk):
    place, found = walk.first(), []
    while (step := walk.after(place)) is not None:
        found.append(list(walk.items(step[0], step[1])))
        assert len(found[-1]) == step[2]
        place = step[1]
    return found


@pytest.mark.parametrize("size", [1, 7, 80, 81, 1000])
def test_each_row_once(engine, size):
    query = sa.select(User.id).where(User.active)
    found = all_of(pages(query, engine, key=User.id, size=size))
    assert [row for page in found for row in page] == [n * 3 for n in range(1, 101) if n % 5]
    assert all(len(page) == size for page in found[:-1])


@pytest.mark.parametrize("size", [1, 6, 50])
def test_keys_of_several_columns(engine, size):
    query = sa.select(User.team, User.id)
    found = all_of(pages(query, engine, key=[User.team, User.id], size=size))
    rows = [tuple(row) for page in found for row in page]
    assert rows == sorted((f"t{n % 4}", n * 3) for n in range(1, 101))


def test_a_job_over_entities_of_sessions(engine, client):
    names = []

    @chunked(
        "users", over=pages(sa.select(User), sessionmaker(engine), key=User.id, size=30, count=True), client=client
    )
    def rename(chunk):
        for user in chunk:
            names.append(user.name)
        assert chunk.start is None or chunk.start < user.id <= chunk.end

    progress = rename()
    assert (progress.state, progress.done, progress.finished, progress.total) == ("done", 4, 100, 100)
    assert len(set(names)) == len(names) == 100


def test_rows_that_come_and_go_meanwhile(engine, client):
    """Those behind the cursor belong to the job; no row is skipped or done twice because others come and go."""
    seen = []

    @chunked("users", over=pages(sa.select(User.id), engine, key=User.id, size=10), client=client)
    def work(chunk):
        seen.extend(chunk)
        if chunk.number == 2:
            with engine.begin() as connection:
                connection.execute(sa.delete(User).where(User.id < 60))
                connection.execute(sa.delete(User).where(User.id == 150))
                connection.execute(sa.insert(User).values(id=1, team="x", name="too late"))
                connection.execute(sa.insert(User).values(id=151, team="x", name="in time"))

    work()
    assert seen == sorted({*range(3, 301, 3), 151} - {150})


def test_a_chunk_that_is_taken_over_has_the_same_bounds(engine, client):
    bounds = []

    @chunked("users", over=pages(sa.select(User.id), engine, key=User.id, size=10), client=client)
    def work(chunk):
        bounds.append((chunk.start, chunk.end))
        yield from chunk

    items = work()
    first = [next(items) for _ in range(12)]
    items.close()
    with engine.begin() as connection:
        connection.execute(sa.insert(User).values(id=31, team="x", name="new"))
    assert list(work())[:11] == [31, *range(33, 61, 3)]
    assert bounds[:3] == [(None, 30), (30, 60), (30, 60)]
    assert first[-2:] == [33, 36]


def test_no_offset_is_ever_sent(engine):
    statements = []
    sa.event.listen(engine, "before_cursor_execute", lambda *a: statements.append((a[2], a[3])))
    all_of(pages(sa.select(User), sessionmaker(engine), key=User.id, size=40))
    assert any("LIMIT" in text for text, _ in statements)
    # SQLite's dialect writes OFFSET 0 behind each LIMIT; no other number is ever sent.
    for text, values in statements:
        assert text.count("OFFSET ?") == text.count("OFFSET")
        assert text.count("OFFSET") <= list(values).count(0)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (sa.String(20), ["a", "b'", 'c"', "ä", "日本"]),
        (
            sa.DateTime(),
            [NOON + timedelta(microseconds=n) for n in range(5)],
        ),
        (sa.Uuid(), [UUID(int=n * 7 + 1) for n in range(5)]),
        (sa.LargeBinary(), [bytes([n, 255]) for n in range(5)]),
    ],
)
def test_keys_of_other_kinds(engine, kind, values):
    table = sa.Table("things", sa.MetaData(), sa.Column("key", kind, primary_key=True))
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), [{"key": value} for value in values])
    found = all_of(pages(sa.select(table), engine, key=table.c.key, size=2))
    assert sorted(row for page in found for row in page) == sorted(values)
    assert [len(page) for page in found] == [2, 2, 1]


def test_an_empty_table(engine):
    assert all_of(pages(sa.select(User).where(User.id < 0), engine, key=User.id, size=2)) == []


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda e: pages(sa.select(User), e, key="id", size=10), "a column or several"),
        (lambda e: pages(sa.select(User), e, key=[], size=10), "a column or several"),
        (lambda e: pages(sa.select(User), e, key=User.id, size=0), "whole number of rows"),
        (lambda e: pages(sa.select(User).limit(5), e, key=User.id, size=1), "LIMIT"),
        (lambda e: pages(User, e, key=User.id, size=1), "of a select"),
        (lambda e: pages(sa.select(User), e, key=User.id, size=1).planned(["name"]), "order of"),
    ],
)
def test_what_cannot_work_is_refused(engine, wrong, why):
    with pytest.raises(ConfigurationError, match=why):
        wrong(engine)


def test_a_key_that_is_null_is_refused(engine):
    table = sa.Table("holes", sa.MetaData(), sa.Column("key", sa.Integer))
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), [{"key": None}])
    with pytest.raises(ConfigurationError, match="is NULL"):
        all_of(pages(sa.select(table), engine, key=table.c.key, size=1))
