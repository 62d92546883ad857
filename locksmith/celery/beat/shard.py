"""A share of the schedule: stands for its election, and fires what is due of it for as long as it leads."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from locksmith.celery.beat.book import Book, page_of
from locksmith.celery.beat.desk import Desk
from locksmith.celery.beat.moments import SECOND
from locksmith.celery.beat.notices import Notices, Orders, election_of
from locksmith.celery.beat.rota import Rota
from locksmith.celery.beat.sending import Sender
from locksmith.client import Client, Lease
from locksmith.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from locksmith.celery.beat.beating import Beat

logger: Final = logging.getLogger("locksmith.celery.beat")
LOOK: Final = 1.0
"""Seconds between two looks at the clock at most: somebody may have set it."""
_PAUSE: Final = 0.5


def present() -> int:
    """Now, in microseconds since 1970."""
    return time.time_ns() // 1000


class Shard:
    """The share `number` of a beat. Its entries are those on every so-manieth page of the book."""

    def __init__(self, beat: Beat, client: Client, number: int) -> None:
        self._beat = beat
        self._settings = beat.settings
        self._client = client
        self.number = number
        self.name = election_of(self._settings.schedule, number, self._settings.shards)
        self._election = client.election(self.name, ttl=self._settings.ttl)
        self._wake = threading.Event()
        self._retreat = threading.Event()
        """Up where this beat has enough to do with another share."""
        self.leads = False

    def run(self) -> None:
        """Until the beat is stopped. Raises what cannot be mended by trying again."""
        if self._settings.mode == "active":
            self._fire(None)
            return
        while not self._beat.stopped:  # one that has handed over stands in line again, behind the others
            if self._may_stand():
                self._retreat.clear()
                self._election.run(self._led, note=self._settings.name, stop=self._retreat)
            else:
                self._wake.wait(LOOK)

    def wake(self) -> None:
        """Look what has changed."""
        self._wake.set()
        if self._beat.stopped or (self._beat.busy and not self.leads):
            self._retreat.set()

    def _may_stand(self) -> bool:
        """Whether to stand in line: a beat that leads another share leaves this one to those that lead none."""
        if not self._beat.busy:
            return True
        try:
            if self._election.leader() is not None:
                return False
            self._wake.wait(self._settings.ttl / 2)
            return not self._beat.stopped and self._election.leader() is None
        except StoreError:
            return False

    def _led(self, lead: Lease) -> None:
        logger.info("beat: %s leads %s", self._settings.name, self.name)
        lead.on_lost(self._wake.set)
        self._wake.clear()
        self.leads = True
        self._beat.wake_others(self)
        try:
            if not self._fire(lead):
                lead.check()  # it was lost: whoever called this stands for election again
        finally:
            self.leads = False

    def _fire(self, lead: Lease | None) -> bool:
        """Fire what is due until this is to stop or to hand over (True), or leads no more (False). Raises LeaseLost."""
        sender = Sender(self._beat.app, self._settings.schedule)
        desk = Desk(Notices(self._client, self._settings.schedule), self._settings, self.number, lead)
        rota: Rota | None = None
        edition = self._beat.edition
        try:
            while lead is None or lead.held:
                try:
                    latest = self._beat.edition  # once: to ask is to have been told
                    changed = desk.look(present()) or latest != edition
                    edition = latest
                    if self._beat.stopped or desk.hands_over or self._has_more_than_its_share():
                        return True
                    if rota is None or changed:
                        sent = 0 if rota is None else rota.sent
                        rota = self._rota(sender, lead, desk.orders)
                        rota.sent = sent
                        rota.begin()
                    due = rota.step()
                    desk.tell(rota, present())
                except StoreUnavailable as error:
                    logger.warning("beat: the store cannot be asked, nothing is sent: %s", error)
                    rota = None
                    self._wake.wait(_PAUSE)
                else:
                    self._rest(due)
        finally:
            sender.close()
        return False

    def _has_more_than_its_share(self) -> bool:
        """Whether somebody waits for this share while this beat leads another one as well."""
        return self._beat.leads > 1 and bool(self._client.inspect(self.name).waiters)

    def _rota(self, sender: Sender, lead: Lease | None, orders: Orders) -> Rota:
        ours, shards = self._settings, self._settings.shards
        entries = self._beat.load(orders.added)
        return Rota(
            Book(self._client, ours.schedule),
            sender,
            [entry for entry in entries if page_of(entry.name) % shards == self.number],
            me=self._beat.me,
            ttl=ours.ttl,
            misfire=ours.misfire,
            guard=lead,
            stopped=lambda: self._beat.stopped,
            clock=present,
            sent=self._beat.sent,
            paused=orders.paused,
        )

    def _rest(self, due: int | None) -> None:
        left = LOOK if due is None else (due - present()) / SECOND
        if left > 0:
            self._wake.wait(min(left, LOOK))
