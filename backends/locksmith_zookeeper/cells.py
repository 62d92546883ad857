"""Cells: plain nodes whose version is the transaction that wrote them last, which grows across deletion as well.

A ttl is compared with the server's clock, read off a node that is written for this. It is the leader's wall clock, so a
cell may live longer than its ttl where that clock is set back.
"""

from __future__ import annotations

import os
import random
import struct
from typing import Any, Final, NamedTuple

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError
from kazoo.protocol.states import WatchedEvent, ZnodeStat

from locksmith import names
from locksmith.errors import CellConflict, CellTooLarge, LeaseLost, StoreUnavailable
from locksmith.runtime import Event
from locksmith.store import ABSENT, ANY, MAX_CELL_BYTES, Cell, Expect, Grant
from locksmith_zookeeper.base import Base
from locksmith_zookeeper.errors import translate
from locksmith_zookeeper.wire import (
    CheckVersion,
    Create,
    Create2,
    Delete,
    Exists,
    GetChildren,
    GetData,
    SetData,
    Sync,
    Transaction,
)

_HEAD: Final = struct.Struct("!d8s")
"""Before the value: its ttl in seconds (0: stays) and the mark of one write."""
_FINE: Final = (NoNodeError, NodeExistsError, BadVersionError)
_CLOCK_AGE: Final = 30.0
"""Seconds that a reading of the server's clock is good for; a clock of ours that runs fast costs a cell 1 % of that."""
_LOOK_AGAIN: Final = 5.0
"""Seconds after which `changed` looks even though nobody told it anything."""
_SWEEP_EVERY: Final = 20
_SWEPT: Final = 60


class Found(NamedTuple):
    """A cell as it lies on the server."""

    value: bytes
    version: int
    writes: int
    """What the server calls the node's version: how often it was written since it was made."""
    ends: float | None
    """Seconds until its ttl is over, by the server's clock; None: stays."""
    mark: bytes


class Cells(Base):
    """Small shared values."""

    def _fresh(self) -> None:
        super()._fresh()
        self._clock: tuple[float, float] | None = None
        self._written = 0
        self._watched: dict[str, set[Event]] = {}
        self._armed: set[str] = set()

    def _cell(self, key: str) -> str:
        return f"{self._root}/cell/{names.encode(key)}"

    async def get(self, key: str) -> Cell | None:
        """See Store.get."""
        found = await self._find(self._cell(key), self._until())
        return None if found is None or _over(found) else Cell(found.value, found.version)

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        expect: int | Expect = ANY,
        ttl: float | None = None,
        guard: Grant | None = None,
    ) -> int:
        """See Store.put."""
        path, until = self._cell(key), self._until()
        if len(value) > MAX_CELL_BYTES:
            raise CellTooLarge(f"a cell has at most {MAX_CELL_BYTES} bytes, not {len(value)}")
        mark = os.urandom(8)
        data = _HEAD.pack(ttl or 0.0, mark) + value
        tried = False
        while True:
            found = await self._find(path, until)
            if tried and found is not None and found.mark == mark:
                return found.version  # written by the request whose answer was lost
            self._check(key, found, expect)
            writes = 0 if found is None else found.writes
            steps: list[Any] = [SetData(path, data, writes)]
            if found is None:
                # In a transaction only the second of these tells its version, which is the transaction's.
                steps = [Create2(path, data, self._server.acl, 0)]
                steps = steps if guard is None else [Create(*steps[0]), SetData(path, data, 0)]
            answer, again = await self._write(path, steps, guard, until)
            tried |= again
            if not isinstance(answer, Exception):
                await self._sweep_now_and_then(ttl, until)
                version: int = (answer if isinstance(answer, ZnodeStat) else answer[1]).mzxid
                return version

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        """See Store.delete."""
        path, until = self._cell(key), self._until()
        tried = False
        while True:
            found = await self._find(path, until)
            absent = found is None or _over(found)
            if absent and tried:
                return True
            self._check(key, found, expect, deleting=True)
            if guard is not None:
                await self._must_hold(guard, until)
            if found is None:
                return False
            answer, again = await self._write(path, [Delete(path, found.writes)], guard, until)
            tried |= again
            if answer is True:
                return not absent

    def _check(self, key: str, found: Found | None, expect: int | Expect, *, deleting: bool = False) -> None:
        version = None if found is None or _over(found) else found.version
        if expect is ANY or expect == version or (expect is ABSENT and version is None):
            return
        is_ = "is not there" if version is None else f"is at version {version}"
        wanted = "absent" if expect is ABSENT else f"at version {expect}"
        raise CellConflict(f"{key!r} {is_}, not {wanted}: read it again and decide anew", found=version)

    async def _write(self, path: str, steps: list[Any], guard: Grant | None, until: float) -> tuple[Any, bool]:
        """The answer to a write (an error: the world has changed, look again), and whether one was lost before it."""
        if guard is None:
            answer = await self._ask(self._people, *steps, until=until, path=path, fine=_FINE)
            result = answer.values[0]
        else:
            request = Transaction([CheckVersion(await self._must_hold(guard, until), -1), *steps])
            answer = await self._ask(self._people, request, until=until, path=path)
            held, *results = answer.values[0]
            if isinstance(held, NoNodeError):
                raise _lost(guard)
            failed = (result for result in results if isinstance(result, Exception))
            result = next(failed, results[-1])
        if isinstance(result, NoNodeError) and isinstance(steps[0], Create2 | Create):
            await self._ask(self._people, *self._parents(path), until=until, path=path, fine=(Exception,))
        elif isinstance(result, Exception) and not isinstance(result, _FINE):
            raise translate(result, path) from result
        if isinstance(result, Exception) and self.runtime.clock.now() >= until:
            raise StoreUnavailable(f"ZooKeeper: {path} is changed by others all the time: try again.")
        return result, answer.again

    async def _must_hold(self, guard: Grant, until: float) -> str:
        spot = await self._spot(guard, self._people, until)
        if spot is None:
            raise _lost(guard)
        exists = await self._answers(
            self._people, Sync(spot.path), Exists(spot.path, None), until=until, path=spot.path
        )
        if exists.values[1] is None:
            raise _lost(guard)
        return spot.path

    async def _find(self, path: str, until: float) -> Found | None:
        """What lies there. Synchronised with the leader first: this server may be behind, and others know more."""
        answer = await self._answers(self._people, Sync(path), GetData(path, None), until=until, path=path)
        if isinstance(answer.values[1], Exception):
            return None
        data, stat = answer.values[1]
        ttl, mark = _HEAD.unpack_from(data)
        ends = None
        if ttl:
            ends = stat.mtime / 1000 + ttl - await self._server_time(until)
        return Found(data[_HEAD.size :], stat.mzxid, stat.version, ends, mark)

    async def _server_time(self, until: float) -> float:
        """The server's clock, in seconds; what it shows at least, so that nothing ends too early."""
        now = self.runtime.clock.now
        if self._clock is None or now() - self._clock[1] > _CLOCK_AGE:
            path = f"{self._root}/clock"
            answer = await self._answers(self._people, SetData(path, b"", -1), until=until, path=path)
            if isinstance(answer.values[0], Exception):
                make = [*self._parents(path), Create2(path, b"", self._server.acl, 0)]
                await self._ask(self._people, *make, until=until, path=path, fine=(Exception,))
                return await self._server_time(until)
            self._clock = (answer.values[0].mtime / 1000, now())
        told, at = self._clock
        return told + (now() - at) * 0.99

    async def _sweep_now_and_then(self, ttl: float | None, until: float) -> None:
        """Delete what is over among some cells, so that those that nobody asks for again do not stay for ever."""
        if ttl is None:
            return
        self._written += 1
        if self._written % _SWEEP_EVERY:
            return
        parent = f"{self._root}/cell"
        answer = await self._answers(self._people, GetChildren(parent, None), until=until, path=parent)
        cells = [] if isinstance(answer.values[0], Exception) else answer.values[0]
        for cell in random.sample(cells, min(_SWEPT, len(cells))):
            found = await self._find(f"{parent}/{cell}", until)
            if found is not None and _over(found):
                self._people.post(Delete(f"{parent}/{cell}", found.writes))

    # Changes.

    async def changed(self, key: str, seen: int, wait: float) -> int:
        """See Store.changed: a watch tells of it, one for each cell however many wait."""
        path, now = self._cell(key), self.runtime.clock.now
        deadline = now() + wait
        while True:
            event = self.runtime.event()
            self._watched.setdefault(path, set()).add(event)
            try:
                if path not in self._armed:
                    await self._watch(path)
                found = await self._find(path, self._until())
                version = 0 if found is None or _over(found) else found.version
                left = deadline - now()
                if version != seen or left <= 0:
                    return version
                ends = found.ends if found is not None and found.ends is not None else _LOOK_AGAIN
                await event.wait(max(0.0, min(left, _LOOK_AGAIN, ends + 0.005)))
            finally:
                if (events := self._watched.get(path)) is not None:
                    events.discard(event)

    async def _watch(self, path: str) -> None:
        over = False

        def fired(_: WatchedEvent) -> None:
            nonlocal over
            over = True
            self._armed.discard(path)
            for event in self._watched.pop(path, set()):
                event.set()

        await self._answers(self._people, Exists(path, fired), until=self._until(), path=path)
        self._armed.add(path)
        if over:  # on kazoo's thread, before we came to note that there is a watch
            self._armed.discard(path)


def _over(found: Found) -> bool:
    return found.ends is not None and found.ends <= 0


def _lost(guard: Grant) -> LeaseLost:
    return LeaseLost(
        f"{guard.claim.name!r} (token {guard.token}) is not held any more: nothing was written; others may hold it now"
    )
