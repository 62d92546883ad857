"""A supervisor: it does what the plan says, with a guardian, a store and signals."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final

from locksmith.client import Client, Lease
from locksmith.errors import ConfigurationError, LocksmithError
from locksmith.fencing import NAME, TOKEN
from locksmith.supervise import guardian
from locksmith.supervise.campaign import Campaign, Elected, Failed, Taken
from locksmith.supervise.control import Control
from locksmith.supervise.orders import NEEDS, Orders, Report
from locksmith.supervise.plan import Action, Do, End, Exit, Forward, Phase, Plan, Restart
from locksmith.supervise.ward import Ended, Orphaned, Started, Ward, kill_family

logger: Final = logging.getLogger("locksmith.supervise")

ENDINGS: Final = ("SIGTERM", "SIGINT", "SIGQUIT")
PASSED_ON: Final = ("SIGHUP", "SIGUSR1", "SIGUSR2")
SHARE: Final = 0.3
"""Of the ttl, at most, for ending the command once the lease is not renewed: SIGTERM comes that long before SIGKILL."""
MARGIN: Final = 0.02
"""Of the ttl between SIGKILL and the lease's deadline, for a guardian that is scheduled late."""
LEAST_MARGIN: Final = 0.05
LOOKS: Final = 12
"""How often within a ttl the lease's deadline is passed on."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a supervisor is to do. `ttl` and `grace` are seconds."""

    name: str
    command: Sequence[str]
    ttl: float
    grace: float
    restart: Restart
    once: bool


@dataclass(frozen=True, slots=True)
class _Signal:
    number: int


@dataclass(frozen=True, slots=True)
class _Look:
    """Some child ended that is not the guardian."""


class Supervisor:
    """Runs a command while the name is held. `connect` makes a client; each stand for the name gets its own."""

    def __init__(self, wanted: Wanted, connect: Callable[[], Client]) -> None:
        if guardian.WINDOWS:
            raise ConfigurationError("`locksmith run` needs process groups and signals: not on Windows")
        self._wanted = wanted
        self._connect = connect
        self._inbox: SimpleQueue[object] = SimpleQueue()
        endings = frozenset(int(getattr(signal, name)) for name in ENDINGS)
        self._plan = Plan(restart=wanted.restart, once=wanted.once, term=int(signal.SIGTERM), endings=endings)
        self._campaign: Campaign | None = None
        self._control: Control | None = None
        self._orders: Orders | None = None
        self._child: int | None = None
        self._kill_at = 0.0
        self._reported: Report | None = None
        self._failure: LocksmithError | None = None

    def run(self) -> int:
        """Until the plan says so; the exit status. Main thread only: signals. Raises LocksmithError."""
        guardian.become_subreaper()
        self._ward = Ward(self._wanted.command, self._inbox.put)
        before = self._take_signals()
        try:
            status = self._serve()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._ward.close()
            self._give_back()
            if self._control is not None:
                self._control.close()
        if self._failure is not None:
            raise self._failure
        return status

    def _serve(self) -> int:
        client = self._connect()
        if NEEDS in client.guarantees:
            self._control = Control(client, self._wanted.name, self._inbox.put, patient=not self._wanted.once)
        else:
            client.close()
            self._orders = Orders()
            self._perform(self._plan.begin())
        while True:
            status = self._perform(self._next())
            if status is not None:
                return status
            self._publish()

    def _next(self) -> list[Action]:
        try:
            event = self._inbox.get(timeout=self._patience())
        except Empty:
            event = None
        actions = self._heard(event)
        if self._plan.phase in (Phase.STARTING, Phase.RUNNING, Phase.ENDING):
            self._pass_deadline_on()
        return actions or self._plan.tick(guardian.now(), held=self._held, room=self._has_room)

    def _patience(self) -> float | None:
        if self._plan.phase in (Phase.STARTING, Phase.RUNNING, Phase.ENDING, Phase.RESTING):
            return min(1.0, self._wanted.ttl / LOOKS, max(0.0, self._plan.due - guardian.now()))
        return None

    # What happened.

    def _heard(self, event: object) -> list[Action]:
        now = guardian.now()
        if isinstance(event, _Signal):
            return self._plan.signal(event.number)
        if isinstance(event, Orders):
            return self._ordered(event)
        if isinstance(event, Started):
            self._child = event.pid
            return self._plan.started(now)
        if isinstance(event, Ended):
            return self._ended(event, now)
        if isinstance(event, Orphaned):
            return self._orphaned()
        if isinstance(event, Elected) and event.campaign is self._campaign:
            logger.info("%r is ours, token %d", self._wanted.name, self._lease.token)
            return self._plan.elected()
        if isinstance(event, Taken) and event.campaign is self._campaign:
            return self._plan.taken()
        if isinstance(event, Failed):
            self._failure = event.error
            return [Exit(0)]
        if isinstance(event, _Look):
            self._reap()
        return []

    def _ended(self, event: Ended, now: float) -> list[Action]:
        self._child = None
        self._ward.forget()
        if event.trouble:
            logger.warning("cannot start %s", event.trouble)
        if event.expired:
            logger.warning("%r was not renewed in time: the command was ended", self._wanted.name)
        return self._plan.ended(
            now, event.status, held=self._held, expired=event.expired, hopeless=event.trouble is not None
        )

    def _orphaned(self) -> list[Action]:
        logger.error("the guardian was killed: ending the command")
        if self._child is not None:
            kill_family(self._child)
        return self._plan.orphaned()

    def _ordered(self, orders: Orders) -> list[Action]:
        before, self._orders = self._orders, orders
        if before is None:
            # Older orders were for others; only what lasts counts.
            self._plan.paused = orders.paused
            return self._plan.begin()
        if orders.stop > before.number:
            return self._plan.stop()
        if orders.paused != self._plan.paused:
            return self._plan.pause() if orders.paused else self._plan.resume()
        for order, does in ((orders.handover, self._plan.hand_over), (orders.restart, self._plan.restart)):
            if order[0] > before.number and self._held and order[1] == self._lease.token:
                return does()
        return []

    # What to do.

    def _perform(self, actions: Sequence[Action]) -> int | None:
        for action in actions:
            if isinstance(action, Exit):
                return action.status
            if isinstance(action, Forward):
                self._ward.signal(action.signal)
            elif isinstance(action, End):
                self._ward.stop(self._wanted.grace, action.signal)
            elif action is Do.CAMPAIGN:
                self._stand()
            elif action is Do.START:
                self._start()
            else:
                self._give_back()
        return None

    def _stand(self) -> None:
        wanted = self._wanted
        self._campaign = Campaign(self._connect, wanted.name, wanted.ttl, once=wanted.once, tell=self._inbox.put)
        self._campaign.start()

    def _start(self) -> None:
        environment = {TOKEN: str(self._lease.token), NAME: self._wanted.name}
        term_at, self._kill_at = self._allowed()
        self._ward.start(environment, term_at, self._kill_at, self._wanted.grace)

    def _give_back(self) -> None:
        campaign, self._campaign = self._campaign, None
        if campaign is not None:
            campaign.close(self._withdraw)

    def _withdraw(self, lease: Lease) -> None:
        if self._control is not None and self._reported is not None:
            self._reported = None
            with suppress(LocksmithError):
                self._control.withdraw(lease)

    def _pass_deadline_on(self) -> None:
        if self._held:
            term_at, kill_at = self._allowed()
            if kill_at > self._kill_at:
                self._kill_at = kill_at
                self._ward.extend(term_at, kill_at)
        elif self._child is not None and guardian.now() >= self._kill_at:
            # The guardian does this, unless somebody has stopped it. Its zombie keeps the process id ours.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child, signal.SIGKILL)

    def _allowed(self) -> tuple[float, float]:
        # In this order: whatever comes between the two readings makes the deadline earlier, never later.
        now = guardian.now()
        left = self._lease.remaining()
        ttl = self._lease.ttl
        kill_at = now + left - max(LEAST_MARGIN, MARGIN * ttl)
        return kill_at - min(self._wanted.grace, SHARE * ttl), kill_at

    @property
    def _lease(self) -> Lease:
        assert self._campaign is not None  # noqa: S101 - for the type checker; the plan asks only while there is one
        assert self._campaign.lease is not None  # noqa: S101
        return self._campaign.lease

    @property
    def _held(self) -> bool:
        campaign = self._campaign
        return campaign is not None and campaign.lease is not None and campaign.lease.held

    @property
    def _has_room(self) -> bool:
        """Whether what is started now would not be told to end at once."""
        return self._held and self._allowed()[0] > guardian.now()

    def _publish(self) -> None:
        if self._control is None or self._orders is None or not self._held:
            return
        report = Report(
            token=self._lease.token,
            phase=self._plan.phase.value,
            host=socket.gethostname(),
            supervisor=os.getpid(),
            child=self._child,
            starts=self._plan.starts,
            obeyed=self._orders.number,
            command=list(self._wanted.command),
        )
        if report != self._reported:
            self._reported = report
            self._control.publish(report, self._lease)

    # Signals and orphans.

    def _take_signals(self) -> dict[int, Any]:
        before = {}
        for name in (*ENDINGS, *PASSED_ON):
            number = getattr(signal, name)
            # What nohup, or a shell's `&`, had us ignore stays ignored, for the command too.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[int(number)] = signal.signal(number, self._on_signal)
        before[int(signal.SIGCHLD)] = signal.signal(signal.SIGCHLD, self._on_child)
        return before

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._inbox.put(_Signal(number))

    def _on_child(self, number: int, frame: FrameType | None) -> None:
        self._inbox.put(_Look())

    def _reap(self) -> None:
        # As process 1 of a container we are the parent of orphans that have nothing to do with the command.
        for pid in guardian.children():
            if pid != self._ward.pid:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
