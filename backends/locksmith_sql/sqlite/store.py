"""sqlite:///file: leases for all processes of one host. docs/stores/sqlite.md says what it promises, and when."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, Self, TypeVar

import sqlalchemy as sa

from locksmith import names, pacing
from locksmith.errors import CellTooLarge, ConfigurationError, SettingsConflict, StoreUnavailable
from locksmith.pacing import Rate, Slot
from locksmith.runtime import Runtime
from locksmith.store import (
    ANY,
    MAX_CELL_BYTES,
    Cell,
    Claim,
    Expect,
    Finding,
    Grant,
    Guarantee,
    Inbox,
    Inspection,
    Page,
    Store,
    Ticket,
    Unknown,
    Word,
)
from locksmith_sql import url as urls
from locksmith_sql.sqlite import cells, changes, claims, doctor, paces, sweep, views
from locksmith_sql.sqlite.claims import Granted, Queued
from locksmith_sql.sqlite.connection import Desk, Link
from locksmith_sql.sqlite.errors import Busy
from locksmith_sql.sqlite.ledger import Ledger
from locksmith_sql.sqlite.waiters import Hub

T = TypeVar("T")

# One transaction of a beat: the time that others wait for it stays below a few milliseconds.
_BATCH: Final = 250
# Pauses while another process writes: its transactions take 20 to 200 us, a cell's sync some milliseconds.
_FIRST_PAUSE: Final = 0.0001
_LAST_PAUSE: Final = 0.004
# How often it is looked whether the file is still the one that was opened.
_LOOK_EVERY: Final = 0.5
# How often somebody who only paces, and so has no beat, looks whether to sweep.
_SWEEP_EVERY: Final = 15.0


class SQLiteStore(Store):
    """Leases in one SQLite file. Assumes a local file system and one kernel; see docs/stores/sqlite.md."""

    guarantees: ClassVar[Guarantee] = (
        Guarantee.FENCED
        | Guarantee.FIFO
        | Guarantee.CLOCK
        | Guarantee.EXACT_TTL
        | Guarantee.LOCK_DELAY
        | Guarantee.DURABLE
        | Guarantee.CELLS
    )
    min_ttl: ClassVar[float] = 0.01

    def __init__(
        self, engine: sa.Engine, path: str, *, runtime: Runtime, namespace: str, timeout: float, ours: bool
    ) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._path = path
        self._timeout = timeout
        self._engine = engine if ours else None
        self._desk = Desk(engine, namespace, path)
        self._hub = Hub(self._desk, runtime)
        self._desk.on_fork = self._hub.fresh
        self._looked_at = self._swept_at = runtime.clock.now()

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        parsed = urls.parse(url)
        if parsed.drivername not in {"sqlite", "sqlite+pysqlite"}:
            raise ConfigurationError(f"{parsed.drivername}:// is not supported: write sqlite:///path/to/file")
        if parsed.host or parsed.username or parsed.password or parsed.port:
            raise ConfigurationError("a file has no host: write sqlite:///relative/path or sqlite:////absolute/path")
        given = urls.options(parsed, ("timeout",))
        timeout = urls.seconds("timeout", given.get("timeout"), urls.DEFAULT_TIMEOUT)
        path = _path(parsed.database)
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=path),
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"check_same_thread": False, "timeout": 0.0},
        )
        return cls(engine, path, runtime=runtime, namespace=namespace, timeout=timeout, ours=True)

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Self:
        """A store over a SQLAlchemy Engine for SQLite. Its connections are opened by the engine and kept by us."""
        if not isinstance(client, sa.Engine):
            raise ConfigurationError(
                f"{cls.__name__} takes an sqlalchemy.Engine, not a {type(client).__name__}: for asyncio too, since "
                "SQLite's driver is called in threads; make it with create_engine('sqlite:///path')"
            )
        if client.dialect.name != "sqlite" or client.dialect.driver != "pysqlite":
            kind = f"{client.dialect.name}+{client.dialect.driver}"
            raise ConfigurationError(f"{cls.__name__} takes an engine for sqlite:///path, not for {kind}")
        path = _path(client.url.database)
        timeout = urls.DEFAULT_TIMEOUT
        return cls(client, path, runtime=runtime, namespace=namespace, timeout=timeout, ours=False)

    @property
    def address(self) -> str:
        return f"sqlite:///{self._path}"

    def ddl(self) -> list[str]:
        return list(self._desk.ddl)

    async def create(self) -> None:
        await self._read(lambda link: None)  # opening the file creates what is missing in it

    # Claims.

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        since, answer = await self._persist(partial(self._acquire, claim, queue))
        if answer is None:
            return None
        if isinstance(answer, SettingsConflict):
            raise answer
        if isinstance(answer, Granted):
            return Grant(claim, answer.token, claim.ttl, since)
        inbox = Inbox(self.runtime.event())
        return self._hub.expect(Ticket(claim, answer.number, since, inbox, answer.head_expires_in))

    def _acquire(self, claim: Claim, queue: bool) -> tuple[float, Granted | Queued | SettingsConflict | None]:
        since = self.runtime.clock.now()
        if claim.limit == 1:
            taken = self._desk.run(partial(claims.take, claim=claim))
            if taken is not None:
                return since, taken
        return since, self._transact(partial(claims.acquire, claim=claim, queue=queue))

    def takes_together(self, claims: Sequence[Claim]) -> bool:
        return True

    async def acquire_all(self, claims: Sequence[Claim]) -> list[Grant] | None:
        """See Store.acquire_all: one transaction."""
        since, answer = await self._persist(partial(self._acquire_all, claims))
        if isinstance(answer, SettingsConflict):
            raise answer
        if answer is None:
            return None
        return [Grant(claim, token, claim.ttl, since) for claim, token in zip(claims, answer, strict=True)]

    def _acquire_all(self, wanted: Sequence[Claim]) -> tuple[float, list[int] | SettingsConflict | None]:
        since = self.runtime.clock.now()
        return since, self._transact(partial(claims.acquire_all, wanted=wanted))

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        await self._hub.wait(ticket, timeout)

    def leave(self, ticket: Ticket) -> None:
        self._hub.forget(ticket.claim.owner)

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        within = min(within, self._timeout)
        ends = self.runtime.clock.now() + within
        items: list[Grant | Ticket] = [*grants, *tickets]
        words: list[Word] = []
        await self.runtime.call(self._desk.check_file)
        for start in range(0, len(items), _BATCH):
            try:
                batch = items[start : start + _BATCH]
                words.extend(await self._persist(partial(self._beat, batch), ends=ends))
            except StoreUnavailable as error:
                if not words:
                    raise
                words.extend([Unknown(error)] * (len(items) - len(words)))
                break
        await self._sweep()
        return words

    def _beat(self, batch: list[Grant | Ticket]) -> list[Word]:
        since = self.runtime.clock.now()
        grants = [item for item in batch if isinstance(item, Grant)]
        tickets = [item for item in batch if isinstance(item, Ticket)]
        return self._transact(lambda ledger: claims.beat(ledger, grants, tickets, since))

    async def release(self, grant: Grant) -> bool:
        return await self._persist(partial(self._release, grant))

    def _release(self, grant: Grant) -> bool:
        if grant.claim.limit == 1 and grant.confirmed and self._desk.run(partial(claims.give, grant=grant)):
            return True
        return self._transact(partial(claims.release, grant=grant))

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        self._hub.forget(claim.owner)
        await self._persist(lambda: self._transact(partial(claims.abandon, claim=claim, tombstone=tombstone)))

    # For people.

    async def inspect(self, name: str) -> Inspection:
        return await self._read(partial(views.inspect, name=name))

    async def names(self, prefix: str, after: str | None = None) -> Page:
        return await self._read(partial(views.list_names, prefix=prefix, after=after))

    async def evict(self, name: str, token: int) -> bool:
        key = names.encode(name)
        return await self._persist(lambda: self._transact(partial(claims.evict, key=key, token=token)))

    async def diagnose(self) -> list[Finding]:
        return await self._read(lambda link: doctor.examine(link, self._desk.path))

    # Cells.

    async def cells(self, prefix: str, after: str | None = None) -> Page:
        return await self._read(partial(views.list_cells, prefix=prefix, after=after))

    async def get(self, key: str) -> Cell | None:
        return await self._read(partial(cells.get, key=names.encode(key)))

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        expect: int | Expect = ANY,
        ttl: float | None = None,
        guard: Grant | None = None,
    ) -> int:
        if len(value) > MAX_CELL_BYTES:
            raise CellTooLarge(f"a cell holds at most {MAX_CELL_BYTES} bytes, this value has {len(value)}")
        where = names.encode(key)
        return await self._persist(
            lambda: self._transact(
                lambda ledger: cells.write(ledger, where, key, bytes(value), expect=expect, ttl=ttl, guard=guard),
                durable=True,
            )
        )

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        where = names.encode(key)
        version = await self._persist(
            lambda: self._transact(
                lambda ledger: cells.write(ledger, where, key, None, expect=expect, guard=guard), durable=True
            )
        )
        return version != 0

    async def changed(self, key: str, seen: int, wait: float) -> int:
        where = names.encode(key)
        return await changes.changed(self._desk, self.runtime, lambda: self._version(where), seen, wait)

    async def _version(self, key: str) -> int:
        cell = await self._read(partial(cells.get, key=key))
        return cell.version if cell else 0

    async def now(self) -> int | None:
        return self._desk.clock.wall()

    async def pace(self, key: str, rates: tuple[Rate, ...], cost: int, *, at_most: float) -> Slot:
        book = partial(paces.book, key=names.encode(key), rates=rates, cost=cost, at_most=at_most)
        slot = await self._persist(lambda: self._transact(book, durable=pacing.is_slow(rates)))
        if self.runtime.clock.now() - self._swept_at > _SWEEP_EVERY:
            await self._sweep()
        return slot

    # Life.

    async def close(self) -> None:
        await self.runtime.call(self._desk.close)
        if self._engine is not None:
            self._engine.dispose()

    def after_fork(self) -> None:
        """See Store.after_fork: the connections were closed before it, and all is fresh already (connection.py)."""

    # How requests are made.

    async def _persist(self, attempt: Callable[[], T], *, ends: float | None = None) -> T:
        """Call `attempt` until nobody else is writing. No thread and no mutex is held between two tries."""
        clock = self.runtime.clock
        if clock.now() - self._looked_at > _LOOK_EVERY:
            self._looked_at = clock.now()
            await self.runtime.call(self._desk.check_file)
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self.runtime.call(attempt)
            except Busy:
                if ends is None:
                    ends = clock.now() + self._timeout
                if clock.now() + pause >= ends:
                    raise
            await self.runtime.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 1.5, _LAST_PAUSE)

    async def _read(self, work: Callable[[Link], T]) -> T:
        return await self._persist(lambda: self._desk.run(work))

    def _transact(self, work: Callable[[Ledger], T], *, durable: bool = False) -> T:
        result, handed = self._desk.transact(work, durable=durable)
        if handed:
            self._hub.hand(handed)
        return result

    async def _sweep(self) -> None:
        self._swept_at = self.runtime.clock.now()
        # The beat's answer stands; whatever is wrong with the store the next request says.
        try:
            if await self.runtime.call(lambda: self._desk.run(sweep.due)):
                await self.runtime.call(lambda: self._transact(sweep.step))
        except StoreUnavailable:
            pass


def _path(database: str | None) -> str:
    if not database or database == ":memory:" or "mode=memory" in database or ":memory:" in database:
        raise ConfigurationError(
            "SQLite in memory is seen by no other process: use memory://, or sqlite:///path/to/file"
        )
    if "\0" in database:
        raise ConfigurationError("a path holds no NUL")
    if database.startswith("file:"):
        return str(Path(database[5:].partition("?")[0]))
    # Now, not at the first request: the process may change its directory in between.
    return os.path.abspath(database)  # noqa: PTH100 - Path.absolute keeps "..", which would be shown to people
