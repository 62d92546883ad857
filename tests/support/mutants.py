"""Broken variants of the code: each one is a bug that somebody's lock library has had, and some test must notice it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MEMORY: Final = "tests/contract/test_memory.py"
DEADLINES: Final = "tests/engine/test_deadlines.py"
LINES: Final = "tests/engine/test_lines.py"
TERMS: Final = "tests/recipes/test_election_terms.py"


@dataclass(frozen=True)
class Mutant:
    """A change of one place in one file, and the tests that must fail because of it."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    where: str = MEMORY
    """Where the tests are; `tests` is an expression for pytest's -k."""


MUTANTS: Final = [
    Mutant(
        "release without an owner check",
        "locksmith/memory_world.py",
        "        if holder is None or holder.grant.token != grant.token:\n            return False, handed\n"
        "        del state.holders[grant.claim.owner]",
        "        state.holders.clear()",
        "releases_or_renews_the_grant_of_another or second_release",
    ),
    Mutant(
        "a token that does not grow",
        "locksmith/memory_world.py",
        "state.token = max(state.token + 1, micros)\n        grant = Grant(claim, state.token, claim.ttl, since)",
        "state.token = 7\n        grant = Grant(claim, state.token, claim.ttl, since)",
        "tokens_grow_with_every_grant",
    ),
    Mutant(
        "a try overtakes the line",
        "locksmith/memory_world.py",
        "        if not state.line and state.closed_until <= now and self._fits(state, claim):",
        "        if state.closed_until <= now and self._fits(state, claim):",
        "try_does_not_overtake or writers_do_not_starve",
    ),
    Mutant(
        "a beat revives what expired",
        "locksmith/memory_world.py",
        "        for owner in [owner for owner, holder in state.holders.items() if holder.expires <= now]:",
        "        for owner in [o for o, h in state.holders.items() if h.expires <= now and state.line]:",
        "beat_never_revives",
    ),
    Mutant(
        "a waiter that was silent is granted",
        "locksmith/memory_world.py",
        "            if head.expires <= now:\n                del state.line[claim.owner]\n            elif",
        "            if",
        "silence_of_a_waiter or only_silent_waiters",
    ),
    Mutant(
        "an unconfirmed grant lasts a whole ttl",
        "locksmith/memory_world.py",
        "state.holders[claim.owner] = Holder(grant, now, now + claim.waiter_ttl, ticket.number)",
        "state.holders[claim.owner] = Holder(grant, now, now + claim.ttl * 100, ticket.number)",
        "unconfirmed_grant_ends",
    ),
    Mutant(
        "an acquire that arrives after its abandon is granted",
        "locksmith/memory_world.py",
        "        if claim.owner in state.dead:\n            return None, handed\n",
        "",
        "arrives_after_its_abandon",
    ),
    Mutant(
        "a lost wake-up",
        "locksmith/memory.py",
        "        for ticket, grant in handed:\n            ticket.inbox.deliver(grant)\n",
        "",
        "waiter_is_told_without_asking",
    ),
    Mutant(
        "the deadline counts from the reply",
        "locksmith/memory.py",
        "        reply = self._do(lambda world, now, us: world.acquire(claim, ticket, since, now, us))\n",
        "        reply = self._do(lambda world, now, us: world.acquire(claim, ticket, since, now, us))\n"
        "        if isinstance(reply, Grant):\n"
        "            reply = reply._replace(since=self.runtime.clock.now() + 1.0)\n",
        "from_when or deadline_counts",
        f"{MEMORY} {DEADLINES}",
    ),
    Mutant(
        "no local deadline",
        "locksmith/engine/hold.py",
        "        if self.now() < self.valid_until:\n            return True",
        "        if True:\n            return True",
        "while_a_beat_hangs or lost_at_the_deadline",
        DEADLINES,
    ),
    Mutant(
        "a renewal that ignores an error",
        "locksmith/engine/keeper.py",
        "            words = [Unknown(_unavailable(error))] * (len(holds) + len(tickets))",
        "            words = [Held(h.grant.claim.ttl, now) for h in holds] + [Waiting(now) for _ in tickets]",
        "suspect_and_lost",
        DEADLINES,
    ),
    Mutant(
        "a renewal after the release",
        "locksmith/engine/core.py",
        "        if not self.keeper.drop(hold):\n            return False  # another",
        "        if hold.keeper is None:\n            return False  # another",
        "nothing_renews_after_a_release or release_racing or no_thread_is_left",
        f"{DEADLINES} tests/engine/test_giving_back.py",
    ),
    Mutant(
        "a late renewal revives a lost lease",
        "locksmith/engine/hold.py",
        "        if not self.held:\n            return False\n        self._believe(ttl, since)",
        "        self.state = State.HELD\n        self._believe(ttl, since)",
        "revives_nothing",
        DEADLINES,
    ),
    Mutant(
        "the wall clock",
        "locksmith/runtime.py",
        '        boottime = getattr(time, "CLOCK_BOOTTIME", None)\n',
        "        boottime = time.CLOCK_REALTIME\n",
        "clock",
        "tests/core/test_clock.py",
    ),
    Mutant(
        "no abandon when the wait ends",
        "locksmith/engine/core.py",
        "            if news is None:\n                await self._undo(claim, tombstone=False)\n",
        "            if news is None:\n",
        "wait_ends_in_time or impatient",
    ),
    Mutant(
        "no abandon on cancellation",
        "locksmith/engine/core.py",
        "                self._let_go(kept)\n            await self._undo(claim, tombstone=True)\n",
        "                self._let_go(kept)\n",
        "interrupt_in_a_hook_passes",
        "tests/engine/test_hooks.py",
    ),
    Mutant(
        "a keeper that dies of one error",
        "locksmith/engine/keeper.py",
        "                await self._runtime.sleep(0.1)\n",
        "                return\n",
        "keeper_survives",
        DEADLINES,
    ),
    Mutant(
        "an owner shared by all attempts",
        "locksmith/recipes/permits.py",
        "            os.urandom(16).hex(),",
        '            "0" * 32,',
        "two_acquisitions_are_two_leases",
    ),
    Mutant(
        "belief in a handed-over grant counts from now",
        "locksmith/engine/core.py",
        "        if self._now() < believe_until(grant.ttl, grant.since):\n            return grant\n        word",
        "        if self._now() < believe_until(grant.ttl, self._now()):\n            return grant\n        word",
        "late_push_is_confirmed",
        LINES,
    ),
    Mutant(
        "a forked child renews what its parent holds",
        "locksmith/engine/core.py",
        "            hold.state = State.INHERITED\n        self.runtime.reset()",
        "            pass\n        self.runtime.reset()",
        "forked_child",
        "tests/contract/test_sqlite.py",
    ),
    Mutant(
        "Redis: release without an owner check",
        "backends/locksmith_redis/lua/release.lua",
        "string.sub(state, 1, 49) ~= 'H' .. ARGV[1]",
        "string.sub(state, 1, 1) ~= 'H'",
        "releases_or_renews_the_grant_of_another or old_grant",
        "tests/contract/test_redis.py",
    ),
    Mutant(
        "Redis: the counter is lost with the data",
        "backends/locksmith_redis/lua/acquire.lua",
        "    token = now\n  else",
        "    token = 1\n  else",
        "token",
        "tests/stores/redis",
    ),
    Mutant(
        "a leader gives its name back before on_lost has returned",
        "locksmith/engine/core.py",
        "if hold.farewell is not None and hold.held and not await hold.farewell():",
        "if hold.farewell is None and not await hold.farewell():",
        "nobody_leads_before_on_lost",
    ),
    Mutant(
        "an earlier leader's value is shown as the next one's",
        "locksmith/recipes/election.py",
        "            if view.token == term:",
        "            if view.token:",
        "told_once_and_can_say_nothing_more or never_announced",
        f"{MEMORY} {TERMS}",
    ),
    Mutant(
        "a former leader's announcement is not refused by the store",
        "locksmith/recipes/term.py",
        "expect=expect or ABSENT, guard=self.hold.grant",
        "expect=expect or ABSENT",
        "lost_before_it_began",
        TERMS,
    ),
    Mutant(
        "a stalled announcement comes in after a later one",
        "locksmith/recipes/term.py",
        "expect=expect or ABSENT, guard=self.hold.grant",
        "guard=self.hold.grant",
        "stalled_announcement",
        TERMS,
    ),
    Mutant(
        "on_lost is called although the term's beginning was told to nobody",
        "locksmith/recipes/term.py",
        "        if not self._told:\n            return\n",
        "",
        "told_to_nobody",
        TERMS,
    ),
    Mutant(
        "an update overwrites what was written in between",
        "locksmith/recipes/cells.py",
        "ABSENT if found is None else found.version",
        "ABSENT if found is None else Expect.ANY",
        "update",
        "tests/recipes/test_cells.py",
    ),
]
