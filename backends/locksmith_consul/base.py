"""How the store asks its agent: through py-consul's own hook for HTTP clients, with one place for what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, cast

from consul import base as driver
from consul.exceptions import ConsulException

from locksmith.errors import StoreProtocolError
from locksmith.runtime import Runtime
from locksmith.store import Store
from locksmith_consul.errors import refused, translate
from locksmith_consul.http import CONFLICT, NOT_FOUND, OK, NotHttp, Reply
from locksmith_consul.keys import Keys, Op
from locksmith_consul.link import Hook
from locksmith_consul.url import Server

Entry: TypeAlias = dict[str, Any]
"""A key as Consul tells it: Key, Value in base64, CreateIndex, ModifyIndex, Session, Flags."""

FAULTS: Final = (OSError, NotHttp, ConsulException)
_INDEX: Final = b"x-consul-index"
_NOTHING: Final[Mapping[int, str]] = MappingProxyType({})


class Outcome(NamedTuple):
    """What became of a transaction."""

    done: list[Entry] | None
    """What its operations told, one after the other; None where it was rolled back."""
    failed: Mapping[int, str]
    """Which operations failed, and why."""
    since: float
    again: bool
    """Whether it was sent twice, so that the first one may have acted already."""


class _Consul(driver.Consul):  # type: ignore[misc]  # py-consul says nothing about its types
    """py-consul's client on connections of ours. What it adds to a URL's token from the environment is taken back."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        server = hook.server
        super().__init__(server.host, server.port, scheme="https" if server.tls else "http", dc=server.dc or None)
        self.token = server.token or None

    def http_connect(self, *_: Any, **__: Any) -> Hook:
        """See py-consul."""
        return self._hook


class Asking(Store):
    """Requests, and their answers in Python's terms."""

    def __init__(self, server: Server, runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._server = server
        self._keys = Keys(namespace)
        # The two colours of connection are loaded one at a time: a blocking program does not import asyncio for this.
        if runtime.is_async:
            from locksmith_consul.link_async import AsyncLink

            self._link: Any = AsyncLink(server, runtime.clock.now)
        else:
            from locksmith_consul.link import Link

            self._link = Link(server, runtime.clock.now)
        self._driver = _Consul(self._link)
        self._query = f"?{server.query}" if server.query else ""
        self._transacting = f"/v1/txn?consistent{f'&{server.query}' if server.query else ''}"

    async def _driving(self, call: Callable[[], Any]) -> Any:
        """What a call of py-consul's came to. Raises StoreError."""
        try:
            return await self.runtime.settle(call())
        except FAULTS as error:
            raise translate(error) from error

    async def _ask(self, method: str, path: str, body: bytes = b"", seconds: float | None = None) -> Reply:
        """One request, whatever its answer. Raises StoreError where there is none."""
        try:
            reply = self._link.ask(method, path, body, seconds)
            return cast(Reply, await self.runtime.settle(reply))
        except FAULTS as error:
            raise translate(error) from error

    async def _wait(self, target: str, seconds: float) -> Reply:
        """A read that the server may keep for so many seconds. Raises StoreError."""
        try:
            return cast(Reply, await self.runtime.settle(self._link.wait(target, seconds + self._server.timeout)))
        except FAULTS as error:
            raise translate(error) from error

    def _refuse_other(self, failed: Mapping[int, str], known: str) -> None:
        """Raises StoreError unless a transaction failed for this reason, as far as we understand it."""
        for what in failed.values():
            if known not in what:
                raise refused(CONFLICT, what)

    async def _transact(self, ops: Sequence[Op], *, seconds: float | None = None) -> Outcome:
        """All of these operations, or none. Raises StoreError.

        One that only reads is answered by a leader that has made sure it leads: a new one that has not caught up yet
        would say that a key is gone which it has not seen.
        """
        reply = await self._ask("PUT", self._transacting, f"[{','.join(ops)}]".encode("ascii"), seconds)
        outcome = _outcome(reply)
        for what in outcome.failed.values():
            if "ermission denied" in what or "no cluster leader" in what.lower():
                raise refused(reply.code, what)
        return outcome

    async def _tree(self, prefix: str) -> list[Entry]:
        """The keys that begin so. Raises StoreError."""
        return entries(await self._ask("GET", self._reading(prefix, "recurse")))

    def _reading(self, prefix: str, *words: str) -> str:
        """The target of a read that decides something; see `_transact`."""
        query = "&".join((*words, "consistent", *([self._server.query] if self._server.query else ())))
        return f"/v1/kv/{prefix}?{query}"


def _outcome(reply: Reply) -> Outcome:
    if reply.code not in (OK, CONFLICT):
        raise refused(reply.code, reply.body)
    said = parsed(reply)
    try:
        if reply.code == OK:
            return Outcome([result["KV"] for result in said["Results"] or ()], _NOTHING, reply.since, reply.again)
        failed = {int(error["OpIndex"]): str(error["What"]) for error in said["Errors"]}
    except (LookupError, TypeError) as wrong:
        raise StoreProtocolError("Consul: that is no transaction; check that the URL leads to an agent.") from wrong
    return Outcome(None, failed, reply.since, reply.again)


def parsed(reply: Reply) -> Any:
    """The JSON of a reply. Raises StoreProtocolError."""
    try:
        return json.loads(reply.body)
    except ValueError as error:
        raise StoreProtocolError("Consul: the answer is no JSON; check that the URL leads to an agent.") from error


def entries(reply: Reply) -> list[Entry]:
    """The keys of a listing; none of them is no mistake. Raises StoreError."""
    if reply.code == NOT_FOUND and reply.header(_INDEX):
        return []
    if reply.code != OK:
        raise refused(reply.code, reply.body)
    return list(parsed(reply))


def index_of(reply: Reply) -> int:
    """The state of the server that a listing tells of: 0 where it does not say, and never less than 1 where it does."""
    text = reply.header(_INDEX)
    return max(1, int(text)) if text.isdigit() else 0
