"""What people ask of the store: who holds and waits, which names are in use, take it away from them."""

from __future__ import annotations

import os
import re
from typing import Any, Final

from locksmith import names
from locksmith.errors import StoreAuthError, StoreError
from locksmith.store import Claim, Finding, Grant, HolderView, Inspection, Page, WaiterView
from locksmith_redis.base import Asking
from locksmith_redis.diagnose import Command, diagnose
from locksmith_redis.scripts import EVICT, INSPECT, LIVE, Keys, word

_SCANNED: Final = b"500"
_ROUNDS: Final = 20
"""Scans of one page: a server with millions of other keys is asked a little at a time."""
# What is written the same in every key whose name begins with it; longer names have 64 characters before their hash.
_LITERAL: Final = re.compile(r"[A-Za-z0-9_-]{0,60}")


class People(Asking):
    """Inspection and intervention."""

    async def inspect(self, name: str) -> Inspection:
        """See Store.inspect."""
        key = names.encode(name)
        limit, token, closed, _, holders, waiters = (await self._ask(INSPECT, self._keys.counted(key)))[0]
        return Inspection(
            name,
            limit or None,
            token,
            [holder(*holders[at : at + 6]) for at in range(0, len(holders), 6)],
            [_waiter(*waiters[at : at + 4]) for at in range(0, len(waiters), 4)],
            closed / 1e6,
        )

    async def names(self, prefix: str, after: str | None = None) -> Page:
        """See Store.names. A name that comes or goes while this walks may be missed, or listed on two pages."""
        return Page(*await self._scan(self._command, prefix, after))

    async def cells(self, prefix: str, after: str | None = None) -> Page:
        """See Store.cells. Walks over all keys of the server, as `names` does."""
        return Page(*await self._scan_cells(self._command, prefix, after))

    async def _scan_cells(self, command: Command, prefix: str, after: str | None) -> tuple[list[str], str | None]:
        literal = _LITERAL.match(prefix)
        head = self._keys.cell("")[:-1]
        wanted = head + (literal[0].encode() if literal else b"") + b"*"
        cursor = after.encode() if after else b"0"
        found: dict[str, None] = {}
        for _ in range(_ROUNDS):
            cursor, keys = await command(b"SCAN", cursor, b"MATCH", wanted, b"COUNT", _SCANNED)
            found |= dict.fromkeys(names.decode(key[len(head) : -1].decode("ascii", "replace")) or "" for key in keys)
            if cursor == b"0" or found:
                break
        matching = [name for name in found if name and name.startswith(prefix)]
        return matching, None if cursor == b"0" else cursor.decode()

    async def _scan(
        self, command: Command, prefix: str, after: str | None, node: Any = None
    ) -> tuple[list[str], str | None]:
        """Names of a page, asked with this command of a server, and the cursor of the next; `node`: for `_live`."""
        wanted = pattern(self._keys, prefix)
        cursor = after.encode() if after else b"0"
        found: dict[str, None] = {}
        for _ in range(_ROUNDS):
            cursor, keys = await command(b"SCAN", cursor, b"MATCH", wanted, b"COUNT", _SCANNED)
            found |= dict.fromkeys(await self._live(keys, node))
            if cursor == b"0" or found:
                break
        matching = [name for name in found if name.startswith(prefix)]
        return matching, None if cursor == b"0" else cursor.decode()

    async def evict(self, name: str, token: int) -> bool:
        """See Store.evict. "Nobody has it" by a second request means that the first, unanswered one evicted them."""
        tail = self._keys.counted(names.encode(name)) + word(b"%d" % token)
        reply, _, again = await self._ask(EVICT, tail)
        return again or reply == 1

    async def diagnose(self) -> list[Finding]:
        """See Store.diagnose. Takes a name of its own once, in every way, to find out what is not permitted."""
        return [*await diagnose(self._command), await self._rehearse()]

    async def _rehearse(self) -> Finding:
        name = f"doctor {os.urandom(8).hex()}"
        claim = Claim(name, names.encode(name), os.urandom(16).hex(), 5.0, 1, 1, 5.0, 0.0, "{}")
        waiter = claim._replace(owner=os.urandom(16).hex())
        try:
            grant = await self.acquire(claim, queue=False)
            await self.acquire(waiter, queue=True)
            if isinstance(grant, Grant):
                await self.release(grant)
            await self.abandon(waiter, tombstone=False)
            await self._command(b"DEL", self._keys.each(claim.key)[0])
        except StoreAuthError as error:
            return Finding(
                "error", f"something is not permitted: {error}", "see the ACL recipe in docs/stores/redis.md"
            )
        except StoreError as error:
            return Finding("error", f"taking and handing over a name failed: {error}", "see there")
        return Finding("ok", "a name can be taken, waited for and handed over")

    async def _live(self, states: list[bytes], node: Any = None) -> list[str]:
        """Which of these names are in use. All are keys of the same server, this `node` where there are several."""
        keys = [key_of(self._keys, state) for state in states]
        live: list[str] = []
        for some in _batches(keys, 200):
            places = [place for key in some for place in self._keys.each(key)]
            reply = (await self._ask_words(LIVE, b"%d" % len(places), *places))[0]
            live += [named(key, stored) for key, stored in zip(some, reply, strict=True) if stored is not None]
        return live


def pattern(keys: Keys, prefix: str) -> bytes:
    """What SCAN looks for to find names that begin with `prefix`, and perhaps others."""
    literal = _LITERAL.match(prefix)
    return keys.lock(literal[0].encode() if literal else b"") + b"*"


def key_of(keys: Keys, state: bytes) -> str:
    """The name, as it is written in keys, whose state lies at this key."""
    return state[len(keys.lock(b"")) : -1].decode("ascii", "replace")


def _batches(keys: list[str], size: int) -> list[list[str]]:
    return [keys[at : at + size] for at in range(0, len(keys), size)]


def named(key: str, stored: bytes) -> str:
    """The name that a key stands for; `stored`: what live.lua says of it."""
    decoded = names.decode(key)
    return stored.decode("utf-8", "surrogatepass") if decoded is None else decoded


def holder(owner: bytes, token: int, permits: int, since: int, ends: int, info: bytes) -> HolderView:
    """A holder, from what inspect.lua says."""
    return HolderView(owner.decode(), token, permits, since / 1e6, ends / 1e6, _text(info))


def _waiter(owner: bytes, permits: int, since: int, info: bytes) -> WaiterView:
    return WaiterView(owner.decode(), permits, since / 1e6, _text(info))


def _text(raw: Any) -> str:
    return str(raw, "utf-8", "replace")
