"""A beat at work, on a thread of its own: stands for election, and fires what is due for as long as it leads.

Its own thread, because Celery ends a beat from within a signal handler, which may not wait for anything that the
interrupted thread holds; and because a main thread that is blocked must not keep others from leading.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from locksmith.celery.beat.book import Book
from locksmith.celery.beat.desk import Desk
from locksmith.celery.beat.notices import ELECTION, Notices, Orders
from locksmith.celery.beat.rota import Rota
from locksmith.celery.beat.sending import Sender
from locksmith.celery.beat.settings import Settings
from locksmith.celery.beat.slots import SECOND
from locksmith.client import Client, Lease
from locksmith.errors import StoreUnavailable

logger: Final = logging.getLogger("locksmith.celery.beat")
LOOK: Final = 1.0
"""Seconds between two looks at the clock at most: somebody may have set it."""
_PAUSE: Final = 0.5


Load = Callable[[Mapping[str, Mapping[str, Any]]], Iterable[Any]]


def present() -> int:
    """Now, in microseconds since 1970."""
    return time.time_ns() // 1000


class Beat:
    """One beat. `load` gives the entries, with those that were added, when this beat begins to fire and not before."""

    def __init__(self, app: Any, settings: Settings, connect: Callable[[], Client], load: Load) -> None:
        self._app = app
        self._settings = settings
        self._connect = connect
        self._load = load
        self._me = f"{settings.name}/{uuid.uuid4().hex[:12]}"
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="locksmith-beat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Sleep at most so long, while this beat lives. Raises what it ended with."""
        if self._ended.wait(seconds) and self._error is not None:
            raise self._error

    def stop(self, within: float) -> bool:
        """Resign and end; whether that was done within so many seconds. Safe in a signal handler, and idempotent."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        return self._ended.wait(within)

    def _live(self) -> None:
        try:
            with self._connect() as client:
                self._beat(client)
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits for it
            self._error = error
        finally:
            self._ended.set()

    def _beat(self, client: Client) -> None:
        if self._settings.mode == "active":
            self._fire(client, None)
            return
        election = client.election(f"{ELECTION}{self._settings.schedule}", ttl=self._settings.ttl)
        while not self._stop.is_set():  # one that has handed over stands in line again, behind the others
            election.run(lambda lead: self._led(client, lead), note=self._settings.name, stop=self._stop)

    def _led(self, client: Client, lead: Lease) -> None:
        logger.info("beat: %s leads the schedule %r", self._settings.name, self._settings.schedule)
        lead.on_lost(self._wake.set)
        self._wake.clear()
        if not self._fire(client, lead):
            lead.check()  # it was lost: whoever called this stands for election again

    def _fire(self, client: Client, lead: Lease | None) -> bool:
        """Fire what is due until this is to stop or to hand over (True), or leads no more (False). Raises LeaseLost."""
        sender = Sender(self._app, self._settings.schedule)
        desk = Desk(Notices(client, self._settings.schedule), self._settings.name, lead)
        rota: Rota | None = None
        try:
            while lead is None or lead.held:
                try:
                    changed = desk.look(present())
                    if self._stop.is_set() or desk.hands_over:
                        return True
                    if rota is None or changed:
                        sent = 0 if rota is None else rota.sent
                        rota = self._rota(client, sender, lead, desk.orders)
                        rota.sent = sent
                        rota.begin(present())
                    due = rota.step(present())
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

    def _rota(self, client: Client, sender: Sender, lead: Lease | None, orders: Orders) -> Rota:
        return Rota(
            Book(client, self._settings.schedule),
            sender,
            self._load(orders.added),
            me=self._me,
            ttl=self._settings.ttl,
            misfire=self._settings.misfire,
            guard=lead,
            stopped=self._stop.is_set,
            paused=orders.paused,
        )

    def _rest(self, due: int | None) -> None:
        left = LOOK if due is None else (due - present()) / SECOND
        if left > 0:
            self._wake.wait(min(left, LOOK))
