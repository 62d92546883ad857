"""The sessions of one client: one for each ttl that takes what is free, and those that wait."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from locksmith.errors import ClientClosed, ConfigurationError, StoreProtocolError
from locksmith.runtime import Runtime
from locksmith_sql.postgresql.advisory.session import Session
from locksmith_sql.postgresql.advisory.statements import AdvisoryStatements
from locksmith_sql.postgresql.advisory.watch import Watch
from locksmith_sql.postgresql.errors import Late, Refused
from locksmith_sql.postgresql.link import keep_for_ever
from locksmith_sql.postgresql.url import Server

SPARES: Final = 4
"""Sessions without locks that are kept for the next ones to wait, for each ttl."""
OLDEST: Final = 140_000
"""PostgreSQL 14, which can end the session of a client that is stopped."""
_LAST_WORDS: Final = 1.0
# The lock of a silent client is the server's to end; a waiter waits without limit; tokens outlive a crash.
_SETTINGS: Final = "SET idle_session_timeout = {ttl}; SET statement_timeout = 0; SET synchronous_commit = on"
# Frees the place of a waiter whose process was killed. Not every system can tell.
_LOOKS: Final = b"SET client_connection_check_interval = 500"


class Sessions:
    """Opens, keeps and closes them."""

    def __init__(
        self, server: Server, statements: AdvisoryStatements, runtime: Runtime, alarm: Callable[[], None]
    ) -> None:
        self._server = server
        self._statements = statements
        self._runtime = runtime
        self._alarm = alarm
        now = runtime.clock.now
        said: Any = statements
        self.link: Any
        """Connections for whatever needs no lock."""
        if runtime.is_async:
            from locksmith_sql.postgresql.link_async import AsyncLink

            self.link = AsyncLink(server, said, now, runtime)
        else:
            from locksmith_sql.postgresql.link import Link

            self.link = Link(server, said, now)
        self._closed = False
        self._fresh()

    def _fresh(self) -> None:
        self._loop: Any = None
        self._all: set[Session] = set()
        self._common: dict[float, Session] = {}
        self._spares: dict[float, list[Session]] = {}
        self._watch = None if self._runtime.is_async else Watch(self._runtime)

    async def common(self, ttl: float, until: float) -> Session:
        """The session of this ttl in which what is free is taken. Raises Refused, Broken, Late, StoreError."""
        self._settle_here()
        session = self._common.get(ttl)
        if session is not None and not session.dead:
            return session
        made = await self._open(ttl, until)
        current = self._common.setdefault(ttl, made)
        if current is session:
            self._common[ttl] = made
        elif current is not made:  # another thread was faster
            self._spares.setdefault(ttl, []).append(made)
            return current
        return made

    async def spare(self, ttl: float, until: float) -> tuple[Session, bool]:
        """A session without locks, and whether it is a new one. Raises as `common`."""
        self._settle_here()
        spares = self._spares.get(ttl, [])
        while spares:
            with suppress(IndexError):  # another thread was faster
                return spares.pop(), False
        return await self._open(ttl, until), True

    def take_back(self, session: Session) -> None:
        """A session has a lock less: without any it can wait for others."""
        if session.holds or session.litter or self._common.get(session.ttl) is session:
            return
        spares = self._spares.setdefault(session.ttl, [])
        if session in spares:
            return
        if len(spares) < SPARES and not self._closed:
            spares.append(session)
        else:
            session.retire()

    def _forget(self, session: Session) -> None:
        self._all.discard(session)
        if self._common.get(session.ttl) is session:
            self._common.pop(session.ttl, None)
        with suppress(ValueError):
            self._spares.get(session.ttl, []).remove(session)
        self._alarm()

    async def _open(self, ttl: float, until: float) -> Session:
        if self._closed:
            raise ClientClosed("this store was closed: connect again")
        settle = self._runtime.settle
        wire = await settle(self.link.open(until))
        try:
            if wire.pooled:
                raise ConfigurationError(
                    "session locks do not live behind a transaction pooler: connect to the server itself, or leave "
                    "mode=advisory out; if the pooler keeps a session for each client, add pooler=none"
                )
            if wire.pg.server_version < OLDEST:
                raise StoreProtocolError(
                    "PostgreSQL: mode=advisory needs version 14 or later, which ends the session of a client that is "
                    "stopped: leave it out, for lease rows."
                )
            await settle(wire.text(_SETTINGS.format(ttl=max(1, math.ceil(ttl * 1000))).encode(), until))
            with suppress(Refused):
                await settle(wire.text(_LOOKS, until))
            await settle(wire.text(self._statements.ahead, until))
            for statement in self._statements.session:
                await settle(wire.prepare(statement, until))
            if self._closed:  # meanwhile
                raise ClientClosed("this store was closed: connect again")
        except BaseException:
            wire.close()
            raise
        session = Session(wire, ttl, self._statements, self._runtime)
        self._all.add(session)
        session.ended = partial(self._forget, session)
        if self._watch is not None:
            session.watched(self._watch)
        return session

    def _settle_here(self) -> None:
        """Sessions belong to the loop that opened them."""
        if self._runtime.is_async and asyncio.get_running_loop() is not self._loop:
            from locksmith_sql.postgresql.link_async import dismiss

            for session in self._all:
                dismiss(session.wire)
            self._fresh()
            self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """End all of them."""
        self._closed = True
        self._settle_here()
        for session in list(self._all):
            with suppress(Late):
                await session.quit(time.monotonic() + _LAST_WORDS)
        self._all.clear()
        if self._watch is not None:
            self._watch.close()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever((self._all, self._watch))
        self._fresh()
