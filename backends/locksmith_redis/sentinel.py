"""RedisSentinelStore: claims on whichever server is the primary. See docs/stores/redis-sentinel.md for its promises."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Self

import redis.asyncio.sentinel
import redis.sentinel
from redis import exceptions as driver

from locksmith.errors import ConfigurationError, StoreError, StoreUnavailable
from locksmith.runtime import Runtime
from locksmith.store import Claim, Finding, Grant, Ticket
from locksmith_redis import several, url
from locksmith_redis.diagnose import ALL_SERVERS, diagnose
from locksmith_redis.errors import translate
from locksmith_redis.link import Answer
from locksmith_redis.primary import Primary
from locksmith_redis.scripts import Script, request
from locksmith_redis.server import Server
from locksmith_redis.store import RedisStore
from locksmith_redis.url import database

PORT: Final = 26379
WAIT_TIMEOUT: Final = 1.0
"""Seconds within which replicas must have acknowledged a grant, unless the URL says otherwise."""
EXAMPLE: Final = "redis+sentinel://host1:26379,host2:26379/primary-name"

_OPTIONS: Final = ("wait_replicas", "wait_timeout", "sentinel_username", "sentinel_password")
# Where a script met it, Redis 6 says so in the middle of a longer message.
_DEMOTED: Final = re.compile(r"(?:^|-)(?:READONLY|MASTERDOWN)\b")


class TooFewReplicas(StoreUnavailable):
    """A grant was undone, because too few replicas had it in time: try again when they are back."""


class RedisSentinelStore(RedisStore):
    """The single server's store on a primary that changes. With `wait_replicas` nothing is believed before so many
    replicas have it: neither a grant, nor one that was handed over, nor a renewal.
    """

    _server: Primary

    def __init__(
        self, primary: Primary, runtime: Runtime, namespace: str, *, wait_replicas: int = 0, wait_timeout: float = 0.0
    ) -> None:
        super().__init__(primary, runtime, namespace)
        primary.moved = self._moved
        self._replicas = wait_replicas
        self._wait = request(b"WAIT", b"%d" % wait_replicas, b"%d" % (wait_timeout * 1000))
        self._hub.waiters.confirm_first = wait_replicas > 0

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url."""
        said = several.read(url, asynchronous=runtime.is_async, port=PORT, example=EXAMPLE, more=_OPTIONS)
        name, _, db = said.path.partition("/")
        if not name:
            raise ConfigurationError(f"the URL does not say which primary the sentinels watch: write {EXAMPLE}")
        data = said.server.on(database(said.options.get("db") or db or "0"))
        primary = Primary([_sentinel(said, *host) for host in said.hosts], data, name, runtime)
        replicas, timeout = _waits(said.options, data.timeout)
        return cls(primary, runtime, namespace, wait_replicas=replicas, wait_timeout=timeout)

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_client: what `Sentinel(...).master_for(name)` of redis-py returns."""
        pool: Any = getattr(client, "connection_pool", None)
        theirs: Any = redis.asyncio.sentinel if runtime.is_async else redis.sentinel
        if not isinstance(pool, theirs.SentinelConnectionPool):
            raise ConfigurationError(
                "pass what master_for() of redis.sentinel (under asyncio redis.asyncio.sentinel) makes"
            )
        if not pool.is_master:
            raise ConfigurationError("this client leads to replicas, which grant nothing: use master_for()")
        ours: Any = redis.asyncio.connection if runtime.is_async else redis.connection
        tls = issubclass(pool.connection_class, ours.SSLConnection)
        data = url.of_pool(pool, ours.SSLConnection if tls else ours.Connection)
        sentinels = [url.of_pool(each.connection_pool) for each in pool.sentinel_manager.sentinels]
        return cls(Primary(sentinels, data, pool.service_name, runtime), runtime, namespace)

    async def _moved(self) -> None:
        """Another server is the primary now: nothing is said to the old one any more."""
        await self.runtime.settle(self._link.drop_idle())
        self._hub.move()

    async def _refused(self, error: driver.ResponseError, payload: bytes) -> Answer:
        if not _demoted(error):
            raise translate(error) from error
        # Nothing was done there, so this is no second try.
        await self.runtime.settle(self._link.drop_idle())
        try:
            return await self.runtime.settle(self._link.ask(payload))
        except (driver.RedisError, OSError) as failed:
            raise translate(failed) from failed

    # Grants that count only once replicas have them.

    async def _acquire(self, claim: Claim, where: bytes) -> Grant | Ticket | None:
        try:
            return await super()._acquire(claim, where)
        except TooFewReplicas:
            with suppress(StoreError):  # where this fails the keeper undoes it
                await self.abandon(claim, tombstone=False)
            raise

    async def _ask(self, script: Script, tail: bytes) -> Answer:
        if not self._replicas or not script.grants:
            return await super()._ask(script, tail)
        answer = await self._ask_waiting(script.by_sha + tail)
        if isinstance(answer, driver.NoScriptError):
            answer = await self._ask_waiting(script.by_source + tail)
        if isinstance(answer, TooFewReplicas):
            raise answer
        if isinstance(answer, Exception):
            raise translate(answer) from answer
        return answer

    async def _ask_waiting(self, payload: bytes) -> Answer | Exception:
        """An acquire, and on the same connection WAIT, which speaks of what that connection wrote."""
        asked = await super()._ask_all([payload, self._wait], self._server.timeout)
        if any(_demoted(each) for each in asked):
            await self.runtime.settle(self._link.drop_idle())
            asked = await super()._ask_all([payload, self._wait], self._server.timeout)
        answer, waited = asked
        return self._too_few(waited) if _granted(answer) and not self._enough(waited) else answer

    async def _ask_all(self, payloads: list[bytes], within: float) -> list[Answer | Exception]:
        """A beat: what is renewed where too few replicas know it is not renewed."""
        if not self._replicas:
            answers = await super()._ask_all(payloads, within)
        else:
            *answers, waited = await super()._ask_all([*payloads, self._wait], within)
            if not self._enough(waited):
                answers = [each if isinstance(each, Exception) else self._too_few(waited) for each in answers]
        if any(_demoted(each) for each in answers):
            await self.runtime.settle(self._link.drop_idle())
        return answers

    def _enough(self, waited: Answer | Exception) -> bool:
        return isinstance(waited, tuple) and waited[0] >= self._replicas

    def _too_few(self, waited: Answer | Exception) -> TooFewReplicas:
        if isinstance(waited, Exception):
            failure = TooFewReplicas(f"Redis: what replicas have is unknown: {translate(waited)}")
            failure.__cause__ = waited
            return failure
        return TooFewReplicas(
            f"Redis: {waited[0]} of {self._replicas} replicas acknowledged in time; try again when they are back, or "
            "raise wait_timeout."
        )

    # For people.

    async def diagnose(self) -> list[Finding]:
        """See Store.diagnose."""
        findings = await diagnose(self._command, (*ALL_SERVERS, self._judge_replicas, _judge_isolation))
        return [*findings, await self._judge_sentinels(), await self._rehearse()]

    def _judge_replicas(self, info: dict[str, str]) -> Finding:
        count, wanted = int(info.get("connected_slaves", "0")), self._replicas
        if not count:
            return Finding("error", "no replica follows the primary", "there is nothing to fail over to: add one")
        if not wanted:
            advice = f"say wait_replicas={count} in the URL, and let the resource check fencing tokens"
            return Finding("warning", f"{count} replica(s) may lack the last grants when one takes over", advice)
        if count < wanted:
            advice = "nothing is granted until they are back: mend them, or lower wait_replicas"
            return Finding(
                "error", f"{count} of the {wanted} replicas that wait_replicas asks for are connected", advice
            )
        if count > wanted:
            advice = f"wait_replicas={count} covers whichever takes over"
            return Finding("warning", f"a grant waits for {wanted} of {count} replicas: another may take over", advice)
        return Finding("ok", f"a grant waits for all {count} replica(s)")

    async def _judge_sentinels(self) -> Finding:
        reachable, known = len(await self._server.reachable(min(1.0, self._server.timeout))), self._server.sentinels
        what = f"{reachable} of the {known} sentinels in the URL answer"
        if known < 3:
            return Finding("warning", what, "name all of them, and run at least three: a majority must agree")
        return Finding("ok" if reachable == known else "warning", what, "" if reachable == known else "mend the others")


def _judge_isolation(info: dict[str, str]) -> Finding:
    if info.get("min_slaves_good_slaves") is not None:  # shown only where min-replicas-to-write is set
        return Finding("ok", "a primary without replicas refuses writes")
    advice = "set min-replicas-to-write 1 and a small min-replicas-max-lag"
    return Finding("warning", "a primary that is cut off goes on granting until it learns that it was replaced", advice)


def _granted(answer: Answer | Exception) -> bool:
    if isinstance(answer, Exception):
        return False
    reply = answer[0]
    # One token; or those of several names behind a 0, which no place in line begins with.
    return isinstance(reply, int) or (isinstance(reply, list) and reply[0] == 0)


def _demoted(answer: Answer | Exception) -> bool:
    if isinstance(answer, Exception):
        return _DEMOTED.search(str(answer)) is not None
    reply = answer[0]
    # A beat's refusals stand among its answers.
    said = (each for each in reply if isinstance(each, bytes)) if isinstance(reply, list) else ()
    return any(_DEMOTED.search(each.decode("utf-8", "replace")) for each in said)


def _sentinel(said: several.Several, host: str, port: int) -> Server:
    """A sentinel has a password of its own, and no databases."""
    settings = {name: value for name, value in said.server.settings.items() if name not in ("username", "password")}
    for name in ("username", "password"):
        if value := said.options.get(f"sentinel_{name}"):
            settings[name] = value
    return replace(said.server, settings=settings).at(host, port)


def _waits(options: Any, timeout: float) -> tuple[int, float]:
    text = options.get("wait_replicas", "0")
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"option 'wait_replicas' is a number of replicas, not {text!r}")
    wait = url.seconds("wait_timeout", options, min(WAIT_TIMEOUT, timeout / 2))
    if wait >= timeout:
        raise ConfigurationError(f"option 'wait_timeout' is less than the timeout of a request ({timeout:g} s)")
    return int(text), wait
