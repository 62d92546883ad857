"""Remote control: orders from the store, reports to it, on threads of their own. A slow store delays neither."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from locksmith.client import Client, Lease
from locksmith.errors import ClientClosed, LeaseLost, LocksmithError, StoreError, StoreUnavailable
from locksmith.supervise.campaign import Failed
from locksmith.supervise.orders import Board, Report

logger: Final = logging.getLogger("locksmith.supervise")
_LONGEST: Final = 5.0


class Control:
    """`tell` gets Orders: those in force first, which nothing may be started before; then after each change.

    `patient`: go on asking while the store cannot be asked. Else, and where asking again would not help, Failed.
    """

    def __init__(self, client: Client, name: str, tell: Callable[[object], None], *, patient: bool) -> None:
        self._client = client
        self._board = Board(client, name)
        self._tell = tell
        self._patient = patient
        self._closed = threading.Event()
        self._reports: SimpleQueue[tuple[Report, Lease] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=work, name=f"locksmith-{what}", daemon=True)
            for work, what in ((self._listen, "orders"), (self._publish, "reports"))
        ]
        for thread in self._threads:
            thread.start()

    def publish(self, report: Report, lease: Lease) -> None:
        """Have this written soon."""
        self._reports.put((report, lease))

    def withdraw(self, lease: Lease) -> None:
        """Remove what was published, before its lease is given back. Raises LeaseLost, StoreError."""
        self._board.withdraw(lease)

    def close(self) -> None:
        """End both threads."""
        self._closed.set()
        self._reports.put(None)
        self._client.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _listen(self) -> None:
        pause, heard = 0.1, -1
        while not self._closed.is_set():
            try:
                orders, version = self._board.orders()
                if version != heard:
                    heard = version
                    self._tell(orders)
                pause = 0.1
                self._board.wait_for_orders(version, self._closed)
            except ClientClosed:
                return
            except StoreUnavailable as error:
                if heard < 0 and not self._patient:
                    self._tell(Failed(error))
                    return
                (logger.warning if pause == 0.1 else logger.debug)("orders cannot be read, trying again: %s", error)
                self._closed.wait(pause)
                pause = min(pause * 2, _LONGEST)
            except LocksmithError as error:
                if heard >= 0:
                    logger.warning("no more orders are read: %s", error)
                else:
                    self._tell(Failed(error))
                return

    def _publish(self) -> None:
        while (word := self._reports.get()) is not None:
            while not self._reports.empty():  # the last one counts
                if (later := self._reports.get()) is None:
                    return
                word = later
            report, lease = word
            try:
                if lease.held:
                    self._board.publish(report, lease)
            except LeaseLost:
                pass  # whoever has it now reports
            except StoreError as error:
                logger.info("the report was not written: %s", error)
                if not self._closed.wait(1.0) and self._reports.empty():
                    self._reports.put(word)
            except LocksmithError as error:
                logger.warning("no more reports are written: %s", error)
                return
