"""What people ask of the store: who holds and waits, which names are in use, take it away from them."""

from __future__ import annotations

import time
from typing import Final

from kazoo.exceptions import NoNodeError

from locksmith import names
from locksmith.nodes import Node, granted, inspection
from locksmith.store import Finding, Inspection, Page
from locksmith_zookeeper.base import Base
from locksmith_zookeeper.diagnose import diagnose
from locksmith_zookeeper.line import in_order
from locksmith_zookeeper.wire import Delete, GetChildren, GetData, Sync

PAGE: Final = 200
"""Names that are looked at for one page."""


class People(Base):
    """Inspection and intervention."""

    async def inspect(self, name: str) -> Inspection:
        """See Store.inspect. `expires_in` is the ttl: when a holder was last heard of only the leader knows."""
        nodes = await self._nodes(self._parent(names.encode(name)))
        return inspection(name, list(nodes.values()), time.time())

    async def _nodes(self, parent: str) -> dict[str, Node]:
        """The claims of a name by path, in order; as new as the leader's."""
        until = self._until()
        places = await self._line(self._people, parent, until, Sync(parent))
        if not places:
            return {}
        paths = [f"{parent}/{place.node}" for place in places]
        requests = [GetData(path, None) for path in paths]
        answer = await self._answers(self._people, *requests, until=until, path=parent)
        nodes = {}
        for order, (path, value) in enumerate(zip(paths, answer.values, strict=True)):
            if not isinstance(value, NoNodeError):  # it was deleted since we have listed it
                data, stat = value
                nodes[path] = Node.read(data, order=order, token=stat.czxid)
        return nodes

    async def names(self, prefix: str, after: str | None = None) -> Page:
        """See Store.names."""
        until, parent = self._until(), f"{self._root}/lock"
        answer = await self._answers(self._people, Sync(parent), GetChildren(parent, None), until=until, path=parent)
        if isinstance(answer.values[1], NoNodeError):
            return Page([])
        keys = sorted(key for key in answer.values[1] if key > (after or ""))
        page, rest = keys[:PAGE], keys[PAGE:]
        wanted = [key for key in page if (name := names.decode(key)) is None or name.startswith(prefix)]
        found = [name for name in await self._used_names(wanted, until) if name.startswith(prefix)]
        return Page(found, page[-1] if rest else None)

    async def cells(self, prefix: str, after: str | None = None) -> Page:
        """See Store.cells. Those whose ttl is over may be listed."""
        parent = f"{self._root}/cell"
        answer = await self._answers(
            self._people, Sync(parent), GetChildren(parent, None), until=self._until(), path=parent
        )
        if isinstance(answer.values[1], NoNodeError):
            return Page([])
        keys = sorted(key for key in answer.values[1] if key > (after or ""))
        decoded = [names.decode(key) or "" for key in keys[:PAGE]]
        more = keys[PAGE - 1] if len(keys) > PAGE else None
        return Page([name for name in decoded if name and name.startswith(prefix)], more)

    async def _used_names(self, keys: list[str], until: float) -> list[str]:
        if not keys:
            return []
        requests = [GetChildren(self._parent(key), None) for key in keys]
        answer = await self._answers(self._people, *requests, until=until, path=f"{self._root}/lock")
        found = []
        for key, children in zip(keys, answer.values, strict=True):
            if isinstance(children, NoNodeError) or not in_order(children):
                continue
            name = names.decode(key)
            if name is None:  # the key has only a hash of it, the claims have it all
                name = next((node.name for node in (await self._nodes(self._parent(key))).values()), None)
            if name is not None:
                found.append(name)
        return found

    async def evict(self, name: str, token: int) -> bool:
        """See Store.evict. The node of the holder is deleted; its next beat is told."""
        until = self._until()
        nodes = await self._nodes(self._parent(names.encode(name)))
        holders = list(nodes.items())[: granted(list(nodes.values()))]
        path = next((path for path, node in holders if node.token == token), None)
        if path is None:
            return False
        answer = await self._answers(self._people, Delete(path, -1), until=until, path=path)
        return answer.again or answer.values[0] is True

    async def diagnose(self) -> list[Finding]:
        """See Store.diagnose."""
        until = self._until()
        await self._people.ready(until)
        began = self.runtime.clock.now()
        await self._ask(self._people, Sync("/"), until=until, path="/")
        took = self.runtime.clock.now() - began
        return await diagnose(self._server, self.runtime, took)
