"""Cases about guards of SQL transactions, for every database and isolation level: two connections, interleaved."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.orm import Session

import locksmith
from locksmith.errors import ConfigurationError, LeaseLost, StaleToken
from locksmith.fencing import Fence
from locksmith.testing.waiting import eventually
from locksmith_sql.fencing import create_fences, guard, guard_async

OLD = Fence("import", 1_764_000_000_000_001)
NEW = Fence("import", 1_764_000_000_000_002)
PATIENCE = 40.0


class World:
    """A guarded row, and an unrelated one that a transaction may have looked at before."""

    def __init__(self, engine: sa.Engine, namespace: str) -> None:
        self.engine = engine
        self.fences = f"{namespace}_fences"
        metadata = sa.MetaData()

        def table(word: str) -> sa.Table:
            columns = (sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", sa.String(20)))
            return sa.Table(f"{namespace}_{word}", metadata, *columns)

        self.work, self.other = table("work"), table("other")
        metadata.create_all(engine)
        create_fences(engine, self.fences)
        with engine.begin() as connection:
            connection.execute(self.work.insert().values(id=1, value="nobody"))
            connection.execute(self.other.insert().values(id=1, value="seen"))
        self._metadata = metadata

    def value(self) -> str:
        with self.engine.connect() as connection:
            return str(connection.execute(sa.select(self.work.c.value)).scalar_one())

    def look(self, connection: sa.Connection) -> None:
        """Begin the transaction with a read, from which its snapshot is."""
        assert connection.execute(sa.select(self.other.c.value)).scalar_one() == "seen"

    def write(self, connection: sa.Connection | Session, value: str) -> None:
        connection.execute(self.work.update().values(value=value))

    def guard(self, session: sa.Connection | Session, fence: Fence) -> None:
        guard(session, fence, table=self.fences)

    def whole(self, fence: Fence, value: str) -> None:
        """A guarded transaction as users have it: run again after a conflict."""
        while True:
            try:
                with self.engine.begin() as connection:
                    self.guard(connection, fence)
                    self.write(connection, value)
            except DBAPIError as error:
                if not is_conflict(error):
                    raise
            else:
                return

    def drop(self) -> None:
        self._metadata.drop_all(self.engine)
        with self.engine.begin() as connection:
            connection.execute(sa.text(f"DROP TABLE IF EXISTS {self.fences}"))


def is_conflict(error: DBAPIError) -> bool:
    """Whether the database asks for the transaction to be run again."""
    cause: Any = error.orig
    known = getattr(cause, "sqlstate", None) in {"40001", "40P01"} or cause.args[0] in {1213, 1205, 1020}
    return known or "database is locked" in str(cause)


class Other:
    """Somebody else's transaction, on a thread and connection of its own."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        """Wait for its end, and raise what it raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


class GuardCases:
    """Subclass with a fixture `engine`, once for each isolation level."""

    waiting: ClassVar[str] = ""
    """A query for the number of transactions that wait for a row of ours; none where the database cannot tell."""

    @pytest.fixture
    def world(self, engine: sa.Engine, namespace: str) -> Iterator[World]:
        made = World(engine, namespace)
        yield made
        made.drop()

    def until_it_waits(self, world: World, other: Other) -> None:
        if not self.waiting:
            return

        def waits() -> bool:
            assert other.running, f"it did not wait: {other.error!r}"
            with world.engine.connect() as connection:
                return int(connection.execute(sa.text(self.waiting), {"table": f"%{world.fences}%"}).scalar_one()) > 0

        eventually(waits, within=PATIENCE, what="the other transaction waits for the row")

    @pytest.mark.parametrize("was_here", [False, True])
    def test_one_that_began_first_and_comes_last_is_refused(self, world: World, was_here: bool) -> None:
        """The older holder's transaction is open, with a snapshot, all the time while the newer one works."""
        if was_here:
            world.whole(OLD, "old")  # so that the snapshot shows its own token as the highest
        with world.engine.connect() as late:
            world.look(late)
            world.whole(NEW, "new")
            with pytest.raises((StaleToken, DBAPIError)) as refused:
                world.guard(late, OLD)
            assert isinstance(refused.value, StaleToken) or is_conflict(refused.value)
            late.rollback()
        with pytest.raises(StaleToken, match=r"'import' with token \d+ comes too late") as again:
            world.whole(OLD, "late")
        assert again.value.seen == NEW.token
        assert isinstance(again.value, LeaseLost)
        assert world.value() == "new"

    def test_a_newer_one_waits_for_an_older_one_that_passed(self, world: World) -> None:
        """So what the older one writes after its guard comes before the newer one's work, never after it."""
        order = []
        with world.engine.connect() as older:
            world.look(older)
            world.guard(older, OLD)

            def newer() -> None:
                world.whole(NEW, "new")
                order.append("newer done")

            other = Other(newer)
            self.until_it_waits(world, other)
            world.write(older, "old")
            order.append("older commits")
            older.commit()
        other.end()
        assert (order, world.value()) == (["older commits", "newer done"], "new")

    @pytest.mark.parametrize("ending", ["commit", "rollback"])
    def test_an_older_one_waits_for_how_a_newer_one_ends(self, world: World, ending: str) -> None:
        with world.engine.connect() as newer:
            world.guard(newer, NEW)
            world.write(newer, "new")
            other = Other(lambda: world.whole(OLD, "old"))
            self.until_it_waits(world, other)
            getattr(newer, ending)()
        if ending == "rollback":
            other.end()  # nothing of the newer one is there: the older one is not late
            assert world.value() == "old"
            world.whole(NEW, "new")
        else:
            with pytest.raises(StaleToken):
                other.end()
        assert world.value() == "new"

    def test_one_holder_writes_as_often_as_it_likes(self, world: World) -> None:
        for number in range(3):
            world.whole(OLD, f"{number}")
        world.whole(NEW, "new")
        world.whole(NEW, "newer")
        world.whole(Fence("export", 1), "of another name")
        assert world.value() == "of another name"

    def test_nothing_is_left_to_commit_in_a_session(self, world: World) -> None:
        world.whole(NEW, "new")
        with Session(world.engine) as session:
            world.write(session, "before the guard")
            with pytest.raises(StaleToken):
                world.guard(session, OLD)
            session.commit()
        assert world.value() == "new"

    def test_a_transaction_in_a_with_is_over(self, world: World) -> None:
        world.whole(NEW, "new")
        with Session(world.engine) as session, session.begin(), session.begin_nested():
            world.write(session, "before the guard")
            with pytest.raises(StaleToken):
                world.guard(session, OLD)
            with pytest.raises(InvalidRequestError):
                world.write(session, "after it")
        with world.engine.connect() as connection, connection.begin():
            world.write(connection, "before the guard")
            with pytest.raises(StaleToken):
                world.guard(connection, OLD)
            with pytest.raises(InvalidRequestError):
                world.write(connection, "after it")
        assert world.value() == "new"

    def test_real_leases(self, world: World) -> None:
        """A holder that sleeps between its check and its write, as it finds itself afterwards."""
        with locksmith.connect("memory://") as client:
            lock = client.lock("import")
            sleeper = lock.acquire()
            sleeper.check()
            found = Fence.of(sleeper)
            client.evict("import", sleeper.token)
            with lock.acquire(wait=10) as holder, Session(world.engine) as session, session.begin():
                guard(session, holder, table=world.fences)
                world.write(session, "holder")
                with pytest.raises(ConfigurationError, match="side by side"):
                    guard(session, client.semaphore("gpu", limit=2).acquire(), table=world.fences)
            with Session(world.engine) as session, pytest.raises(StaleToken):
                guard(session, found, table=world.fences)
            with pytest.raises(LeaseLost, match="released before"):
                guard(session, holder, table=world.fences)
        assert world.value() == "holder"

    def test_resources_of_their_own(self, world: World) -> None:
        resource = "Ünïcode " * 60  # longer than a key: its hash is kept
        with world.engine.begin() as connection:
            guard(connection, NEW, table=world.fences, resource=resource)
            guard(connection, OLD, table=world.fences, resource=resource.upper())
            with pytest.raises(StaleToken):
                guard(connection, OLD, table=world.fences, resource=resource)

    def test_what_cannot_guard_is_refused(self, world: World) -> None:
        with world.engine.connect() as connection:
            with pytest.raises(ConfigurationError, match="create_fences"):
                guard(connection, OLD, table="nowhere")
            connection.rollback()
        with (
            world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
            pytest.raises(ConfigurationError, match="AUTOCOMMIT"),
        ):
            world.guard(connection, OLD)

    def test_many_create_the_table_at_once(self, world: World) -> None:
        ready = threading.Barrier(4)

        def create() -> None:
            ready.wait(PATIENCE)
            create_fences(world.engine, world.fences)

        for number in range(3):
            with world.engine.begin() as connection:
                connection.execute(sa.text(f"DROP TABLE IF EXISTS {world.fences}"))
            for other in [Other(create) for _ in range(4)]:
                other.end()
            world.whole(OLD, f"{number}")


async def guard_in_asyncio(engine: Any, namespace: str) -> None:
    """The same guard in SQLAlchemy's asyncio: a session and a connection, and a late one of each."""
    from sqlalchemy.ext.asyncio import AsyncSession

    fences = f"{namespace}_fences"
    work = sa.Table(f"{namespace}_work", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    async with engine.begin() as connection:
        await connection.run_sync(create_fences, fences)
        await connection.run_sync(work.create)
    try:
        async with AsyncSession(engine) as session, session.begin():
            await guard_async(session, NEW, table=fences)
            await session.execute(work.insert().values(id=1))
        async with AsyncSession(engine) as session:
            await session.execute(work.insert().values(id=2))
            with pytest.raises(StaleToken) as late:
                await guard_async(session, OLD, table=fences)
            assert late.value.seen == NEW.token
            await session.commit()
        async with engine.connect() as connection, connection.begin():
            await connection.execute(work.insert().values(id=3))
            with pytest.raises(StaleToken):
                await guard_async(connection, OLD, table=fences)
        async with engine.begin() as connection:
            await guard_async(connection, NEW, table=fences)
            found = (await connection.execute(sa.select(work.c.id))).scalars().all()
            with pytest.raises(ConfigurationError, match="guard_async"):
                guard(connection, NEW)
        assert found == [1]
    finally:
        async with engine.begin() as connection:
            await connection.run_sync(work.drop)
            await connection.execute(sa.text(f"DROP TABLE {fences}"))
        await engine.dispose()
