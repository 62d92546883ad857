"""Connections to one file: opened when first used, used by one thread at a time, and gone before a fork.

One connection writes for all threads of a client: SQLite lets only one write at a time anyway, and a mutex costs less
than SQLite's file locks and is taken for microseconds only. Nobody sleeps with it: where another process is writing,
the attempt fails at once (busy_timeout 0) and is repeated by `store.py` after a short, growing, jittered pause;
SQLite's own busy handler sleeps in steps of up to 100 ms.
"""

from __future__ import annotations

import itertools
import os
import secrets
import sqlite3
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite as sqlite_dialect

from locksmith.errors import ClientClosed
from locksmith_sql.schema import Tables
from locksmith_sql.sqlite import opening
from locksmith_sql.sqlite.clock import HostClock
from locksmith_sql.sqlite.errors import translate
from locksmith_sql.sqlite.ledger import Handover, Ledger
from locksmith_sql.sqlite.statements import Statements

T = TypeVar("T")

# How long a fork waits for a transaction under way; they last microseconds, unless the disk hangs.
_FORK_PATIENCE: Final = 1.0

_serials = itertools.count()
_inherited: list[object] = []
_desks: weakref.WeakSet[Desk] = weakref.WeakSet()


class Link:
    """One open connection. SQLAlchemy opens it and keeps it; statements go to the driver's cursor itself.

    SQLAlchemy's execution of a constant text costs 3 us (exec_driver_sql) to 8 us (text) more per statement than the
    cursor, on a statement of 9 us; there is nothing in these for it to compile, convert or pool.
    """

    def __init__(self, held: sa.Connection, sql: Statements, clock: HostClock) -> None:
        self.held = held
        self.raw = cast(sqlite3.Connection, held.connection.dbapi_connection)
        self.cursor = self.raw.cursor()
        self.sql = sql
        self.clock = clock
        self.serial = next(_serials)
        # For clients that nobody closed: Python warns of connections that are collected open. Not at exit, where
        # somebody may still want to give something back.
        self.close = weakref.finalize(self, _close, self.cursor, self.held, self.raw)
        self.close.atexit = False


class Desk:
    """Where the threads of one client line up for its connection."""

    def __init__(self, engine: sa.Engine, namespace: str, place: str) -> None:
        self.engine = engine
        self.place = place
        self.tables = Tables(namespace)
        dialect = sqlite_dialect.dialect()
        self.sql = Statements(self.tables.quoted(dialect))
        self.ddl = [*self.tables.ddl(dialect), self.sql.set_version]
        self.closed = False
        self.on_fork: Callable[[], None] = _nothing
        self._fresh()
        _desks.add(self)

    def _fresh(self) -> None:
        self.clock = HostClock()
        self.client = secrets.token_hex(8)
        self.mutex = threading.Lock()
        self._link: Link | None = None
        self._ready = False
        self._identity: tuple[int, int] | None = None
        # Always taken in this order: the poller's, then the writer's.
        self.poll_mutex = threading.Lock()
        self._poll_link: Link | None = None
        self._frozen: list[threading.Lock] = []

    def run(self, work: Callable[[Link], T]) -> T:
        """Have `work` send one statement, or read. Raises Busy where nothing was done, StoreError."""
        with self.mutex:
            link = self._get()
            try:
                return work(link)
            except sqlite3.Error as error:
                self._doubt(error)
                raise translate(error, self.place) from error
            except BaseException:
                # A statement with RETURNING that was interrupted is not committed until its cursor is closed.
                self._discard()
                raise

    def transact(self, work: Callable[[Ledger], T], *, durable: bool = False) -> tuple[T, list[Handover]]:
        """Have `work` done in one immediate transaction. Raises Busy where nothing was done, StoreError.

        `durable`: on the disk when this returns, and not only safe from the death of processes.
        """
        with self.mutex:
            link = self._get()
            try:
                return self._transact(link, work, durable=durable)
            except sqlite3.Error as error:
                self._doubt(error)
                raise translate(error, self.place) from error

    def _transact(self, link: Link, work: Callable[[Ledger], T], *, durable: bool) -> tuple[T, list[Handover]]:
        cursor = link.cursor
        done = False
        try:
            if durable:
                cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute("BEGIN IMMEDIATE")
            ledger = Ledger(cursor, link.sql, link.clock.era, link.clock.now(), link.clock.wall(), self.client)
            result = work(ledger)
            ledger.save()
            cursor.execute("COMMIT")
            if durable:
                cursor.execute("PRAGMA synchronous = NORMAL")
            done = True
            return result, ledger.handed
        except Exception:
            if self._rolled_back(link, durable=durable):
                done = True
            raise
        finally:
            if not done:
                # KeyboardInterrupt and its like may have hit anywhere: closing rolls back for certain.
                self._discard()

    def _rolled_back(self, link: Link, *, durable: bool) -> bool:
        try:
            if link.raw.in_transaction:
                link.cursor.execute("ROLLBACK")
            if durable:
                link.cursor.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error:
            return False
        return True

    def poll(self, work: Callable[[Link], T]) -> T:
        """Have `work` look at what others committed: on one connection of its own, whose data_version is comparable.

        Raises StoreError; after one, and after a fork, the connection is another.
        """
        with self.poll_mutex:
            link = self._poll_link
            try:
                if link is None:
                    with self.mutex:
                        link = self._poll_link = self._open()
                return work(link)
            except sqlite3.Error as error:
                self._discard_poll()
                raise translate(error, self.place) from error
            except BaseException:
                self._discard_poll()
                raise

    @property
    def polling(self) -> bool:
        """Whether the poller's connection is open."""
        return self._poll_link is not None

    def _get(self) -> Link:
        link = self._link
        if link is None:
            link = self._link = self._open()
        return link

    def _open(self) -> Link:
        if self.closed:
            raise ClientClosed("this store was closed: connect again")
        held = opening.connect(self.engine, self.place)
        link = Link(held, self.sql, self.clock)
        try:
            path = opening.prepare(link.raw, self.place)
            if not self._ready:
                opening.create(link.cursor, self.sql, self.ddl, self.tables.prefix, self.place)
                self._ready = True
            self._identity = opening.identity(path)
            self.path = path
        except sqlite3.Error as error:
            link.close()
            raise translate(error, self.place) from error
        except BaseException:
            link.close()
            raise
        return link

    def check_file(self) -> bool:
        """Whether the file is still the one we opened; where it is not, the next request opens what is there now."""
        with self.mutex:
            if self._link is None or self._identity is None or opening.identity(self.path) == self._identity:
                return True
            self._discard()
            self._ready = False
        with self.poll_mutex:
            self._discard_poll()
        return False

    def _doubt(self, error: sqlite3.Error) -> None:
        # Being busy leaves a connection as it was. After anything else it is opened anew, tables and all.
        if (int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF) != sqlite3.SQLITE_BUSY:
            self._discard()
            self._ready = False

    def _discard(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _discard_poll(self) -> None:
        link, self._poll_link = self._poll_link, None
        if link is not None:
            link.close()

    def close(self) -> None:
        """Close the connections, for good."""
        self.closed = True
        with self.poll_mutex:
            self._discard_poll()
        with self.mutex:
            self._discard()

    # Forks. SQLite keeps the locks of a process in memory that a child inherits: the child's *new* connections to the
    # file would count on locks that only its parent has, and the last connection of the parent would delete the log
    # under them. https://www.sqlite.org/howtocorrupt.html section 2.6. So a process forks without any connection open.

    def before_fork(self) -> None:
        """Close everything, and let nobody open anything until the fork is over."""
        for mutex, discard in ((self.poll_mutex, self._discard_poll), (self.mutex, self._discard)):
            if mutex.acquire(timeout=_FORK_PATIENCE):
                self._frozen.append(mutex)
                discard()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        while self._frozen:
            self._frozen.pop().release()

    def after_fork_in_child(self) -> None:
        """Start afresh. What could not be closed before the fork is kept as it is, for ever."""
        for link in (self._link, self._poll_link):
            if link is not None:
                _keep(link)
        self._fresh()
        self.on_fork()


def _close(cursor: sqlite3.Cursor, held: sa.Connection, raw: sqlite3.Connection) -> None:
    """Close a connection, whatever state it is in: SQLite rolls back what was not committed."""
    for close in (cursor.close, held.close, raw.close):
        with suppress(Exception):
            close()


def _nothing() -> None:
    pass


def _keep(link: Link) -> None:
    """Never close nor collect this: closing would speak on the parent's connection."""
    link.close.detach()
    _inherited.extend((link, link.raw, link.cursor, link.held))
    with suppress(ImportError, AttributeError):
        import ctypes

        # Not even when the interpreter ends, which empties this module.
        for leaked in (link.raw, link.cursor):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(leaked))


def _before() -> None:
    for desk in list(_desks):
        desk.before_fork()


def _in_parent() -> None:
    for desk in list(_desks):
        desk.after_fork_in_parent()


def _in_child() -> None:
    for desk in list(_desks):
        desk.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
