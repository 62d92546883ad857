"""What people ask of a quorum: what a majority of its servers says; and what it has not got."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from redis import exceptions as driver

from locksmith import names
from locksmith.errors import StoreUnavailable
from locksmith.store import Finding, HolderView, Inspection, Page, Store
from locksmith_redis.diagnose import ALL_SERVERS, diagnose
from locksmith_redis.errors import translate
from locksmith_redis.link import Answer
from locksmith_redis.people import holder, key_of, named, pattern
from locksmith_redis.scripts import EVICT, INSPECT, LIVE, Keys, request, word
from locksmith_redis.votes import Voter, Votes

_SCANNED: Final = b"500"


class QuorumPeople(Store):
    """Inspection and intervention. No cells: they would need more than one round of votes for each change."""

    _votes: Votes
    _keys: Keys

    async def inspect(self, name: str) -> Inspection:
        """See Store.inspect: who has a majority, until when it has one."""
        answers = await self._heard(INSPECT, self._keys.counted(names.encode(name)))
        seen: dict[str, list[HolderView]] = {}
        for _, _, _, _, holders, _ in answers:
            for at in range(0, len(holders), 6):
                view = holder(*holders[at : at + 6])
                seen.setdefault(view.owner, []).append(view)
        found = [_majority_view(views, self._votes.majority) for views in seen.values()]
        holding = [view for view in found if view is not None]
        token = max((view.token for view in holding), default=max(answer[1] for answer in answers))
        return Inspection(name, 1 if holding else None, token, holding)

    async def names(self, prefix: str, after: str | None = None) -> Page:
        """See Store.names: server after server, each name with the first one that has it."""
        text, _, cursor = (after or "0|0").partition("|")
        number = int(text)
        voter = self._votes.voters[number]
        scan = request(b"SCAN", cursor.encode(), b"MATCH", pattern(self._keys, prefix), b"COUNT", _SCANNED)
        (answer,) = (await self._votes.ask_all({voter: [scan]}, self._votes.timeout))[voter]
        if isinstance(answer, Exception):
            found: list[str] = []  # the others have what it has, or it is no majority's
            following = b"0"
        else:
            following, states = answer[0]
            found = await self._live([key_of(self._keys, state) for state in dict.fromkeys(states)], number)
        wanted = [name for name in found if name.startswith(prefix)]
        if following != b"0":
            return Page(wanted, f"{number}|{following.decode()}")
        return Page(wanted, f"{number + 1}|0" if number + 1 < len(self._votes.voters) else None)

    async def _live(self, keys: list[str], number: int) -> list[str]:
        """Which of these a majority has, and this server is the first of it."""
        if not keys:
            return []
        words = [place for key in keys for place in self._keys.each(key)]
        tail = b"".join(map(word, [b"%d" % len(words), *words]))
        said = await self._votes.ask_scripts(
            lambda source: [LIVE.head(len(words) + 1, source=source) + tail], self._votes.timeout
        )
        answers = [theirs[0] for theirs in said.values()]
        self._refuse_few(answers)
        live: list[str] = []
        for at, key in enumerate(keys):
            has = [each[0][at] if isinstance(each, tuple) else None for each in answers]
            having = [index for index, stored in enumerate(has) if stored is not None]
            if len(having) >= self._votes.majority and having[0] == number:
                live.append(named(key, has[number] or b""))
        return live

    async def evict(self, name: str, token: int) -> bool:
        """See Store.evict."""
        tail = self._keys.counted(names.encode(name)) + word(b"%d" % token)
        answers = list((await self._votes.ask(EVICT, tail, self._votes.timeout)).values())
        self._refuse_few(answers)
        evicted = [answer for answer in answers if isinstance(answer, tuple) and answer[0] == 1]
        return len(evicted) > len(self._votes.voters) - self._votes.majority

    async def _heard(self, script: Any, tail: bytes) -> list[Any]:
        """What a majority or more of the servers reply. Raises StoreUnavailable."""
        answers = list((await self._votes.ask(script, tail, self._votes.timeout)).values())
        self._refuse_few(answers)
        return [answer[0] for answer in answers if isinstance(answer, tuple)]

    def _refuse_few(self, answers: list[Answer | Exception]) -> None:
        silent = [answer for answer in answers if isinstance(answer, Exception)]
        if len(answers) - len(silent) < self._votes.majority:
            raise translate(silent[-1]) from silent[-1]

    async def diagnose(self) -> list[Finding]:
        """See Store.diagnose."""
        findings: list[Finding] = []
        ids: list[str] = []
        for voter in self._votes.voters:
            place = voter.server.address
            try:
                info: dict[str, str] = {}
                theirs = await diagnose(partial(self._say, voter), (_remember(info), *ALL_SERVERS))
            except StoreUnavailable as error:
                findings.append(Finding("warning", f"{place}: it cannot be asked: {error}", "a majority must answer"))
                continue
            ids.append(info.get("run_id", place))
            findings += [Finding(each.level, f"{place}: {each.what}", each.advice) for each in theirs]
        return [self._judge(ids), *findings]

    def _judge(self, ids: list[str]) -> Finding:
        count, total = len(set(ids)), len(self._votes.voters)
        what = f"{count} of {total} servers answer"
        if len(set(ids)) != len(ids):
            return Finding("error", "two addresses lead to one server", "name each server once: it has one vote")
        if count < self._votes.majority:
            return Finding("error", what, f"nothing is granted until {self._votes.majority} of them do")
        if count < total:
            return Finding("warning", what, "mend the others")
        if total % 2 == 0:
            return Finding("warning", what, "an odd number survives as many failures with one server less")
        return Finding("ok", what)

    async def _say(self, voter: Voter, *words: bytes) -> Any:
        try:
            return (await self.runtime.settle(voter.link.ask(request(*words))))[0]
        except (driver.RedisError, OSError) as error:
            raise translate(error) from error


def _remember(info: dict[str, str]) -> Any:
    def look(theirs: dict[str, str]) -> Finding:
        info.update(theirs)
        if theirs.get("role") == "slave":
            return Finding("error", "this server is a replica", "a quorum is of independent primaries")
        if theirs.get("cluster_enabled") == "1":
            return Finding("error", "this is a node of a Redis Cluster", "a quorum is of independent servers")
        return Finding("ok", "an independent primary")

    return look


def _majority_view(views: list[HolderView], majority: int) -> HolderView | None:
    """A holder whom a majority knows; it ends when the last of a majority ends."""
    if len(views) < majority:
        return None
    last = sorted(views, key=lambda view: view.expires_in, reverse=True)[majority - 1]
    tokens = [view.token for view in views]
    token = max(tokens, key=tokens.count)
    return HolderView(last.owner, token, 1, max(view.since for view in views), last.expires_in, last.info)
