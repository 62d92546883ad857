"""The fires of one schedule, one after the other: claim, send, mark."""

from __future__ import annotations

import heapq
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from locksmith.celery.beat.book import Book, Line, Page, page_of
from locksmith.celery.beat.entry import Planned
from locksmith.celery.beat.inner import is_single, is_spent, last_run, may_fire
from locksmith.celery.beat.misfire import Misfire
from locksmith.celery.beat.moments import SECOND, Interval
from locksmith.celery.beat.sending import Never, NotNow, Sender
from locksmith.client import Lease
from locksmith.errors import LocksmithError

logger: Final = logging.getLogger("locksmith.celery.beat")
BATCH: Final = 50
"""Fires that are claimed at once. Those of a beat that dies there are sent again, under the same ids."""
_LOOKED_AT: Final = 10_000
"""Moments of one entry that are looked at one by one: as many as a misfire policy can want."""
AT_ONCE: Final = 20
"""Fires of one entry that are claimed at once: they have room in its line."""
_AGAIN: Final = SECOND // 2
_AT_MOST: Final = 10 * SECOND
_NEVER: Final = 1 << 63


class Rota:
    """What one beat fires while it may: while `guard` is held, or (None) as one of several that share the claims."""

    def __init__(
        self,
        book: Book,
        sender: Sender,
        entries: Iterable[Any],
        *,
        me: str,
        ttl: float,
        misfire: Misfire,
        guard: Lease | None,
        stopped: Callable[[], bool],
        clock: Callable[[], int],
        sent: Callable[[Any], None] = lambda entry: None,
        paused: Collection[str] = (),
    ) -> None:
        self._book = book
        self._sender = sender
        self._me = me
        self._ttl = int(ttl * SECOND)
        self._guard = guard
        self._stopped = stopped
        self._clock = clock
        self._tell_sent = sent
        self._paused = frozenset(paused)
        self._pages: dict[int, Page] = {}
        self._planned = dict(self._plan(entries, misfire))
        self._heap: list[tuple[int, int, str]] = []
        self._serial = itertools.count()
        self._pause = _AGAIN
        self._down_until = 0
        """Nothing is sent before that: the broker could not be reached."""
        self.sent = 0
        """Fires that this beat has sent."""
        self.lag = 0
        """Microseconds by which the latest fire was late that was sent since somebody asked."""

    def _plan(self, entries: Iterable[Any], misfire: Misfire) -> Iterable[tuple[str, Planned]]:
        for entry in entries:
            try:
                planned = Planned(entry, misfire)
                planned.moments.after(0)
            except LocksmithError:
                raise
            except Exception:
                logger.exception("%r is left out: it cannot be said when it is due", entry.name)
                continue
            yield entry.name, planned

    def begin(self) -> None:
        """Read what is known of the entries, and begin those that are new. Raises StoreError, LeaseLost."""
        self._heap.clear()
        for number, group in self._by_page(self._planned.values()).items():
            self._begin_page(number, group)

    def _begin_page(self, number: int, group: list[Planned]) -> None:
        def begin(lines: Mapping[str, Line]) -> Mapping[str, Line]:
            now = self._clock()
            return {**lines, **{each.name: _begun(each, lines.get(each.name), now) for each in group}}

        page = self._pages[number] = self._book.change(number, self._book.read(number), begin, self._guard)
        for each in group:
            self._await(each, page.lines[each.name])

    def step(self) -> int | None:
        """Fire what is due; when something is due next (None: never). Raises StoreError, LeaseLost."""
        now = self._clock()
        due: list[Planned] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(self._planned[heapq.heappop(self._heap)[2]])
        for number, group in self._by_page(due).items():
            for begin in range(0, len(group), BATCH):
                if self._stopped():
                    return None
                self._fire(number, group[begin : begin + BATCH])
        return self._heap[0][0] if self._heap else None

    def agenda(self, count: int) -> list[tuple[int, str]]:
        """What is due next, and when, as far as this beat knows."""
        return [(at, name) for at, _, name in heapq.nsmallest(count, self._heap)]

    @property
    def entries(self) -> int:
        """How many there are."""
        return len(self._planned)

    @property
    def open(self) -> int:
        """Entries with fires that could not be sent yet."""
        return sum(each.retry_at is not None for each in self._planned.values())

    def _fire(self, number: int, group: list[Planned]) -> None:
        """Claim, send and mark what is due of these entries, which stand on one page."""
        mine: dict[str, tuple[int, ...]] = {}

        def claim(lines: Mapping[str, Line]) -> Mapping[str, Line]:
            mine.clear()
            # The time is asked after the page was read: one who was stopped before that must not take what others have
            # fired since then for the future.
            new, now = dict(lines), self._clock()
            for each in group:
                new[each.name], mine[each.name] = self._claimed(each, lines, now)
            return new

        done: list[tuple[str, int, bool]] = []
        page = self._pages[number]
        try:
            page = self._book.change(number, page, claim, self._guard)
            for each in group:
                done += [(each.name, moment, sent) for moment, sent in self._send(each, mine[each.name])]
        finally:
            # Also where leadership was lost in between: then this says so, and the next leader sends the rest.
            if done:
                page = self._book.change(number, page, lambda lines: _marked(lines, done), self._guard)
            self._pages[number] = page
            for each in group:
                self._await(each, page.lines[each.name])

    def _claimed(self, each: Planned, lines: Mapping[str, Line], now: int) -> tuple[Line, tuple[int, ...]]:
        """An entry's line with what is due, and the fires that are this beat's to send."""
        # A store that was flushed has forgotten it, this beat has not.
        line = _begun(each, lines.get(each.name) or self._pages[page_of(each.name)].lines.get(each.name), now)
        if line.open:  # first what is claimed already: what is due meanwhile is missed, if that takes long
            if self._is_theirs(line, now):
                return line, ()
            if self._guard is None or line.by != self._me:
                line = line.claim(line.open, line.last, self._me, now)
            return line, line.open
        due = each.moments.between(line.last, now)
        if not due:
            return line, ()
        silent = each.name in self._paused or is_spent(each.entry, line.last, line.count)
        fireable = () if silent else due[-_LOOKED_AT:]
        wanted = [moment for moment in fireable if may_fire(each.entry, moment)]
        chosen = tuple(each.misfire.choose(wanted, now)) if wanted else ()
        fires = chosen[: 1 if is_single(each.entry) else AT_ONCE]
        upto = due[-1] if fires == chosen else fires[-1]
        if left := len(wanted) - len(chosen):
            logger.warning("%r: %d fires were missed and are left out, by its misfire policy", each.name, left)
        return line.claim(fires, upto, self._me, now), fires

    def _is_theirs(self, line: Line, now: int) -> bool:
        """Whether open fires are about to be sent by another beat: one that leads knows that nobody is."""
        return self._guard is None and line.by != self._me and now < line.at + self._ttl

    def _send(self, each: Planned, moments: tuple[int, ...]) -> Iterable[tuple[int, bool]]:
        each.retry_at = None
        for moment in moments:
            if self._clock() < self._down_until:
                each.retry_at = self._down_until
            if self._stopped() or each.retry_at:
                return
            if self._guard is not None:
                self._guard.check()
            try:
                identity = self._sender.send(each.entry, moment)
            except NotNow as error:
                logger.warning("%r could not be sent, and will be: %s", each.name, error)
                each.retry_at = self._down_until = self._clock() + self._pause
                self._pause = min(self._pause * 2, _AT_MOST)
            except Never:
                logger.exception("%r cannot be sent", each.name)
                yield moment, False
            else:
                self._pause = _AGAIN
                self.sent += identity is not None
                self.lag = max(self.lag, self._clock() - moment)
                said = "left out, the last run is not over" if identity is None else f"sent, id {identity}"
                logger.info("Scheduler: due task %s (%s) %s", each.name, each.entry.task, said)
                yield moment, identity is not None
                if identity is not None:
                    self._tell_sent(each.entry)

    def _await(self, each: Planned, line: Line) -> None:
        """Have this entry looked at when it is due next."""
        due = each.moments.after(line.last)
        if line.open and self._guard is None and line.by != self._me:
            due = line.at + self._ttl
        elif line.open:
            due = min(each.retry_at or 0, due or _NEVER)
        if due is not None:
            heapq.heappush(self._heap, (due, next(self._serial), each.name))

    @staticmethod
    def _by_page(planned: Iterable[Planned]) -> dict[int, list[Planned]]:
        groups: dict[int, list[Planned]] = defaultdict(list)
        for each in planned:
            groups[page_of(each.name)].append(each)
        return groups


def _begun(each: Planned, line: Line | None, now: int) -> Line:
    """The line to go on from: one that nobody has seen begins now."""
    if line is None:
        return Line(last_run(each.entry, now))
    # A clock was put back, and an interval does not wait for it. By less than the interval it is only that the clocks
    # of two machines differ: to begin anew would shift the fires.
    if isinstance(each.moments, Interval) and line.last > now + each.moments.period:
        return replace(line, last=now)
    return line


def _marked(lines: Mapping[str, Line], done: list[tuple[str, int, bool]]) -> Mapping[str, Line]:
    new = dict(lines)
    for name, moment, sent in done:
        if name in new:
            new[name] = new[name].mark(moment, sent=sent)
    return new
