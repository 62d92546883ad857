"""The waiter hub, asyncio: one task for each name that this client's tasks wait for."""

from __future__ import annotations

import asyncio

from locksmith.errors import ClientClosed, StoreError
from locksmith.nodes import Node
from locksmith.store import Ticket
from locksmith_consul.base import FAULTS
from locksmith_consul.board import PAUSES, Board, Watch
from locksmith_consul.link import keep_for_ever
from locksmith_consul.link_async import AsyncLink


class AsyncHub:
    """Tells the tasks of one client."""

    def __init__(self, link: AsyncLink, board: Board) -> None:
        self._link = link
        self._board = board
        self._closed = False
        # Strong references: the loop has only weak ones.
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def join(self, ticket: Ticket, line: list[Node]) -> None:
        """See Hub.join."""
        key = ticket.claim.key
        earlier = self._board.join(ticket)
        task = self._tasks.get(key)
        here = asyncio.get_running_loop()
        idle = task is None or task.done() or task.get_loop() is not here
        if (idle or earlier) and not self._closed:
            if task is not None and not idle:
                task.cancel()
            watch = self._board.watch(key, line, ticket.number)
            self._tasks[key] = here.create_task(self._follow(key, watch), name="locksmith-consul-waiting")

    def leave(self, ticket: Ticket) -> None:
        """See Hub.leave."""
        key = ticket.claim.key
        self._board.forget(key, ticket.claim.owner, ticket)
        if (task := self._tasks.get(key)) is not None and not self._board.waiting(key):
            del self._tasks[key]
            task.cancel()

    async def _follow(self, key: str, watch: Watch) -> None:
        failures = 0
        while not self._closed and self._board.waiting(key):
            try:
                ask = next(watch)
                while True:
                    reply = await self._link.wait(ask.target, ask.seconds + self._link.server.timeout)
                    failures = 0
                    ask = watch.send(reply)
            except StopIteration:
                pass  # nobody waits, or somebody has just joined
            except (*FAULTS, StoreError, ClientClosed):
                await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
                failures += 1
            watch = self._board.watch(key, None, 0)

    async def close(self) -> None:
        """End the tasks, and with them their connections."""
        self._closed = True
        here = asyncio.get_running_loop()
        tasks = [task for task in self._tasks.values() if task.get_loop() is here]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever(self._tasks)
        self._tasks = {}
        self._board.reset()
