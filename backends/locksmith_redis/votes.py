"""Independent servers asked at once, and what becomes of those that did not answer.

Requests go to all servers before any reply is read. A server that failed is left out for a moment, as long as the
others are a majority, so that a dead one does not slow down every request. Whatever it may have done of a claim that
was undone meanwhile is undone there later, with a tombstone for requests that are still under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from redis import exceptions as driver

from locksmith.errors import ClientClosed
from locksmith.runtime import Runtime
from locksmith.store import Claim
from locksmith_redis.link import Answer, unsent, was_sent
from locksmith_redis.scripts import ABANDON, Keys, Script, word
from locksmith_redis.server import Server
from locksmith_redis.store import TOMBSTONE

LEFT_OUT: Final = 1.0
"""Seconds that a server is not asked after it failed, unless its vote is needed."""
OWED_FOR: Final = 60.0
"""Seconds for which undoing is tried on a server that does not answer; longer than a stalled request lives."""
MOST_OWED: Final = 10_000
"""More than that is not worth remembering: what is granted there ends with its ttl."""
_JOIN: Final = 2.0
_PAUSES: Final = (0.1, 0.2, 0.5, 1.0)


class Voter:
    """One of the servers."""

    def __init__(self, server: Server, link: Any) -> None:
        self.server = server
        self.link = link
        self.failed_at = -LEFT_OUT


class Votes:
    """All of the servers."""

    def __init__(self, servers: Sequence[Server], keys: Keys, runtime: Runtime) -> None:
        self._keys = keys
        self._runtime = runtime
        self._now = runtime.clock.now
        if runtime.is_async:
            from locksmith_redis import link_async

            link: Any = link_async.AsyncLink
            self._ask_each: Any = link_async.ask_each
        else:
            from locksmith_redis import link as link_now

            link, self._ask_each = link_now.Link, link_now.ask_each
        self.voters = [Voter(server, link(server, self._now)) for server in servers]
        self.majority = len(servers) // 2 + 1
        self.timeout = min(server.timeout for server in servers)
        self.fresh()

    def fresh(self) -> None:
        """Owe nothing."""
        self._owed: dict[tuple[str, int], tuple[Voter, Claim, float]] = {}
        self._paying: Any = None
        self._lock = threading.Lock()
        self._closed = False

    async def ask(
        self, script: Script, tail: bytes, within: float, among: Sequence[Voter] | None = None
    ) -> dict[Voter, Answer | Exception]:
        """What each server says to a script; the driver's errors among it."""
        voters = self.voters if among is None else among  # nobody is not everybody
        asked = await self.ask_all({voter: [script.by_sha + tail] for voter in voters}, within)
        again = [voter for voter, answers in asked.items() if isinstance(answers[0], driver.NoScriptError)]
        if again:
            asked |= await self.ask_all({voter: [script.by_source + tail] for voter in again}, within)
        return {voter: answers[0] for voter, answers in asked.items()}

    async def ask_scripts(
        self, payloads: Callable[[bool], list[bytes]], within: float
    ) -> dict[Voter, list[Answer | Exception]]:
        """The same for several scripts to each server; `payloads(True)` has their sources."""
        asked = await self.ask_all(dict.fromkeys(self.voters, payloads(False)), within)
        again = [voter for voter, answers in asked.items() if any(isinstance(a, driver.NoScriptError) for a in answers)]
        if again:
            asked |= await self.ask_all(dict.fromkeys(again, payloads(True)), within)
        return asked

    async def ask_all(self, payloads: dict[Voter, list[bytes]], within: float) -> dict[Voter, list[Answer | Exception]]:
        """The same for several requests to each."""
        now = self._now()
        trusted = [voter for voter in payloads if now - voter.failed_at >= LEFT_OUT]
        answers = await self._ask(trusted, payloads, within)
        heard = sum(not is_silence(each[-1]) for each in answers.values())
        left_out = [voter for voter in payloads if voter not in answers]
        if heard < self.majority and left_out:
            answers |= await self._ask(left_out, payloads, within)
        else:
            silent = unsent(driver.ConnectionError("it failed a moment ago"))
            answers |= {voter: [silent] * len(payloads[voter]) for voter in left_out}
        return {voter: answers[voter] for voter in payloads}

    async def _ask(
        self, voters: list[Voter], payloads: dict[Voter, list[bytes]], within: float
    ) -> dict[Voter, list[Answer | Exception]]:
        asks = [(voter.link, payloads[voter]) for voter in voters]
        answers: list[list[Answer | Exception]] = await self._runtime.settle(self._ask_each(asks, within))
        for voter, theirs in zip(voters, answers, strict=True):
            voter.failed_at = self._now() if is_silence(theirs[-1]) else -LEFT_OUT
        return dict(zip(voters, answers, strict=True))

    # What is to be undone on servers that do not answer.

    def without_debt(self, claim: Claim) -> list[Voter]:
        """The servers on which nothing of this claim is still to be undone."""
        return [voter for at, voter in enumerate(self.voters) if (claim.owner, at) not in self._owed]

    async def undo(self, claim: Claim, known: Sequence[Voter], unknown: Sequence[Voter]) -> None:
        """Undo a claim: now where its outcome is `known`, and later, with a tombstone, where it is not."""
        for voter in unknown:
            self.owe(voter, claim)
        if known:
            await self.abandon(claim, tombstone=False, among=known)

    async def abandon(self, claim: Claim, *, tombstone: bool, among: Sequence[Voter] | None = None) -> list[Exception]:
        """Undo a claim, later where a server does not answer now: why those did not."""
        tail = self._abandon(claim, TOMBSTONE if tombstone else 0)
        answers = await self.ask(ABANDON, tail, self.timeout, among)
        silent = {voter: answer for voter, answer in answers.items() if isinstance(answer, Exception)}
        for voter in silent:
            self.owe(voter, claim)
        return list(silent.values())

    def owe(self, voter: Voter, claim: Claim) -> None:
        """Undo this claim on a server as soon as it answers."""
        with self._lock:
            # Those that are owed stay: one of them may be on its way, and its claim must not be asked for there again.
            if len(self._owed) < MOST_OWED:
                self._owed[claim.owner, self.voters.index(voter)] = voter, claim, self._now() + OWED_FOR
            if self._paying is None or not self._paying.alive():
                self._paying = self._runtime.background(self._pay, "locksmith-redis-undo")

    def _goes_on(self) -> bool:
        # Decided and noted in one step: whoever owes something just now must not rely on a thread that is about to end.
        with self._lock:
            if self._owed and not self._closed:
                return True
            self._paying = None
            return False

    async def _pay(self) -> None:
        failures = 0
        while self._goes_on():
            await self._runtime.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1
            with suppress(ClientClosed):
                await self.pay()

    async def pay(self) -> None:
        """Try once to undo what is owed."""
        silent: set[Voter] = set()
        for key, (voter, claim, until) in list(self._owed.items()):
            if voter not in silent:
                tail = self._abandon(claim, TOMBSTONE)
                answer = (await self.ask(ABANDON, tail, self.timeout, [voter]))[voter]
                if not isinstance(answer, Exception):
                    self._owed.pop(key, None)
                    continue
                silent.add(voter)  # each of those behind this one would cost its time in vain
            if self._now() >= until:
                self._owed.pop(key, None)

    def _abandon(self, claim: Claim, tombstone: int) -> bytes:
        return self._keys.counted(claim.key) + word(claim.owner.encode()) + word(b"%d" % tombstone)

    # Life.

    async def close(self) -> None:
        """Undo what is owed where that is possible, and close every connection."""
        if self._closed:
            return
        self._closed = True
        await self.pay()
        if (paying := self._paying) is not None:
            await paying.join(_JOIN)
        for voter in self.voters:
            await self._runtime.settle(voter.link.close())

    def after_fork(self) -> None:
        """See Store.after_fork."""
        for voter in self.voters:
            voter.link.after_fork()
        self.fresh()


def is_unknown(answer: Answer | Exception) -> bool:
    """Whether a request may have been, or may yet be, acted upon without our knowing."""
    return is_silence(answer) and was_sent(answer)


def is_silence(answer: object) -> bool:
    """Whether nothing was answered. A refusal is an answer."""
    return isinstance(answer, Exception) and not isinstance(answer, driver.ResponseError)
