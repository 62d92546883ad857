"""What people ask of the store: who holds and waits, which names are in use, take it away from them."""

from __future__ import annotations

import re
import time
from typing import Final

from locksmith import names, nodes
from locksmith.store import Finding, Inspection, Page
from locksmith_consul.base import parsed
from locksmith_consul.claims import nodes_of
from locksmith_consul.diagnose import diagnose
from locksmith_consul.errors import refused
from locksmith_consul.http import NOT_FOUND, OK
from locksmith_consul.keys import erasing
from locksmith_consul.sessions import Sessions

PAGE: Final = 500
# What is written the same in every key whose name begins with it; longer names have 64 characters before their hash.
_LITERAL: Final = re.compile(r"[A-Za-z0-9_-]{0,60}")


class People(Sessions):
    """Inspection and intervention."""

    async def inspect(self, name: str) -> Inspection:
        """See Store.inspect."""
        found = await self._tree(self._keys.line(names.encode(name)))
        return nodes.inspection(name, nodes_of(found), time.time())

    async def names(self, prefix: str, after: str | None = None) -> Page:
        """See Store.names. Consul lists all names of a prefix at once; pages spare whoever asked, not the server."""
        literal = _LITERAL.match(prefix)
        begin = self._keys.locks + (literal[0] if literal else "")
        reply = await self._ask("GET", self._reading(begin, "keys", "separator=/"))
        if reply.code not in (OK, NOT_FOUND):
            raise refused(reply.code, reply.body)
        listed: list[str] = parsed(reply) if reply.code == OK else []
        start = len(self._keys.locks)
        found = sorted(place[start:].rstrip("/") for place in listed)
        keys = [key for key in found if after is None or key > after]
        wanted = [name for key in keys[:PAGE] if (name := await self._name(key)) is not None]
        more = keys[PAGE - 1] if len(keys) > PAGE else None
        return Page([name for name in wanted if name.startswith(prefix)], more)

    async def cells(self, prefix: str, after: str | None = None) -> Page:
        """See Store.cells, as `names`. Those whose ttl is over may be listed for as long again."""
        literal, root = _LITERAL.match(prefix), self._keys.cell("x")[:-2]
        reply = await self._ask("GET", self._reading(root + (literal[0] if literal else ""), "keys", "separator=/"))
        if reply.code not in (OK, NOT_FOUND):
            raise refused(reply.code, reply.body)
        listed: list[str] = parsed(reply) if reply.code == OK else []
        found = sorted({place[len(root) :].partition("/")[0] for place in listed})
        keys = [key for key in found if after is None or key > after]
        decoded = [names.decode(key) or "" for key in keys[:PAGE]]
        more = keys[PAGE - 1] if len(keys) > PAGE else None
        return Page([name for name in decoded if name and name.startswith(prefix)], more)

    async def _name(self, key: str) -> str | None:
        """The name of a key; one that ends in a hash is told by its claims."""
        name = names.decode(key)
        if name is not None:
            return name
        line = nodes_of(await self._tree(self._keys.line(key)))
        return line[0].name if line else None

    async def evict(self, name: str, token: int) -> bool:
        """See Store.evict."""
        found = await self._tree(self._keys.line(names.encode(name)))
        line = nodes_of(found)
        holders = {node.token for node in line[: nodes.granted(line)]}
        for entry in found:
            if entry["CreateIndex"] == token and token in holders:
                outcome = await self._transact(erasing(entry["Key"], entry["ModifyIndex"]))
                return outcome.done is not None or outcome.again
        return False

    async def diagnose(self) -> list[Finding]:
        """See Store.diagnose. Takes a name of its own once, to find out what is not permitted."""
        return await diagnose(self, self._driver, self._driving)
