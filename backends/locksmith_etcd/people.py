"""What people ask of the store: who holds and waits, which names are in use, take it away from them."""

from __future__ import annotations

import os
import re
import time
from typing import Any, Final

from locksmith import names, nodes
from locksmith.errors import StoreAuthError, StoreError
from locksmith.store import Claim, Finding, Grant, Inspection, Page
from locksmith_etcd import keys, rpc
from locksmith_etcd.base import Asking
from locksmith_etcd.channels import RANGE, TXN
from locksmith_etcd.diagnose import diagnose

_PAGE: Final = 500
_CELLS: Final = 50
"""Of a page of cells: their values come with them, and a message of gRPC has at most 4 MB."""
# What is written the same in every key whose name begins with it; longer names have 64 characters before their hash.
_LITERAL: Final = re.compile(r"[A-Za-z0-9_-]{0,60}")


class People(Asking):
    """Inspection and intervention."""

    async def inspect(self, name: str) -> Inspection:
        """See Store.inspect."""
        return nodes.inspection(name, await self._line(name), time.time())

    async def names(self, prefix: str, after: str | None = None) -> Page:
        """See Store.names."""
        literal = _LITERAL.match(prefix)
        start = self._keys.locks + (literal[0].encode() if literal else b"")
        first = self._keys.locks + after.encode() if after else start
        asked = rpc.RangeRequest(key=first, range_end=keys.after(start), limit=_PAGE)
        reply = (await self._link.ask(RANGE, asked)).message
        found = {kv.key.rpartition(b"/")[0]: kv for kv in reply.kvs}
        wanted = [name for name in map(_name, found.values()) if name.startswith(prefix)]
        # On behind all keys of the last name: '0' comes after '/', which ends it.
        last = list(found)[-1][len(self._keys.locks) :].decode() + "0" if reply.more else None
        return Page(wanted, last)

    async def cells(self, prefix: str, after: str | None = None) -> Page:
        """See Store.cells."""
        literal, root = _LITERAL.match(prefix), self._keys.cells
        start = root + (literal[0].encode() if literal else b"")
        asked = rpc.RangeRequest(
            key=root + after.encode() if after else start, range_end=keys.after(start), limit=_CELLS
        )
        reply = (await self._link.ask(RANGE, asked)).message
        found = [kv.key[len(root) :].decode() for kv in reply.kvs]
        decoded = [names.decode(key) or "" for key in found]
        wanted = [name for name in decoded if name and name.startswith(prefix)]
        return Page(wanted, found[-1] + "\0" if reply.more else None)

    async def evict(self, name: str, token: int) -> bool:
        """See Store.evict. "Nobody has it" by a second request means that the first, unanswered one evicted them."""
        line = await self._line(name)
        for node in line[: nodes.granted(line)]:
            if node.token == token:
                claim = Claim(name, names.encode(name), node.owner, node.ttl, node.permits, node.limit, 0.0, 0.0, "")
                reply = await self._link.ask(TXN, self._keys.give_back(claim, token))
                return reply.again or bool(reply.message.succeeded)
        return False

    async def diagnose(self) -> list[Finding]:
        """See Store.diagnose. Takes a name of its own once, in every way, to find out what is not permitted."""
        return [*await diagnose(self._link, self._leases), await self._rehearse()]

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
        except StoreAuthError as error:
            return Finding("error", f"something is not permitted: {error}", "see the role in docs/stores/etcd.md")
        except StoreError as error:
            return Finding("error", f"taking and handing over a name failed: {error}", "see there")
        return Finding("ok", "a name can be taken, waited for and handed over")

    async def _line(self, name: str) -> list[nodes.Node]:
        reply = await self._link.ask(RANGE, keys.in_order(self._keys.name(names.encode(name))))
        return keys.line(reply.message.kvs)


def _name(kv: Any) -> str:
    (node,) = keys.line([kv])
    return node.name
