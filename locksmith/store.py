"""The store interface: what a server must be able to do for locksmith, and the records that pass between the two.

The rules of docs/architecture.md ("What every store promises") are part of this interface; `locksmith.testing.contract`
checks them. In short:

1. *Idempotent per owner.* Repeating `acquire` with the same owner returns the same grant and re-arms its ttl.
2. *"Could not ask" is never "no".* Driver errors become StoreUnavailable, StoreAuthError or StoreProtocolError, once.
3. *Nothing is left behind.* `abandon` undoes an acquire at any stage, also one whose request is still under way.
4. *Owner and token are checked on the server*, atomically, in every beat and release.
5. *Every removal grants.* Whatever touches a name first expires what is due, then grants from the head of the line.
6. *Only the store's clock expires a lease on the store.*
7. *Tokens grow*: max(previous + 1, the server's microseconds).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple, Self, TypeAlias

from locksmith.errors import ConfigurationError, GuaranteeMissing, StoreUnavailable
from locksmith.pacing import Rate, Slot
from locksmith.runtime import Event, Runtime

MAX_CELL_BYTES: Final = 64 * 1024
"""The largest value of a cell; ZooKeeper, etcd and Consul limit theirs at 0.5 to 1.5 MB, and small is the point."""


class Guarantee(enum.Flag):
    """What a store promises beyond the contract that all of them keep."""

    NONE = 0
    FENCED = enum.auto()
    """Tokens of one name strictly increase with its grants."""
    FIFO = enum.auto()
    """Claims are granted in the order in which they arrived; nobody overtakes, tries included."""
    PUSH = enum.auto()
    """Waiters are told; they do not poll."""
    CLOCK = enum.auto()
    """The store has a clock that can be read, and paces by it: `now` and `pace` answer."""
    EXACT_TTL = enum.auto()
    """A ttl ends when it says, not some time later."""
    LOCK_DELAY = enum.auto()
    """A name can stay closed for a while after its holder was lost."""
    DURABLE = enum.auto()
    """Grants and cells survive a restart of the server."""
    SURVIVES_FAILOVER = enum.auto()
    """A grant survives the loss of the server's leader."""
    SHARED = enum.auto()
    """Several machines can use one store."""
    CELLS = enum.auto()
    """The store keeps cells."""


class Claim(NamedTuple):
    """One attempt to get permits of a name. Its owner, a random nonce, is the identity of this attempt alone."""

    name: str
    """What the user calls it."""
    key: str
    """The name as `names.encode` writes it."""
    owner: str
    """32 hexadecimal digits, never used twice."""
    ttl: float
    """Seconds the store keeps a silent holder."""
    permits: int
    limit: int
    """Permits that exist of this name. A lock is 1 of 1."""
    waiter_ttl: float
    """Seconds the store keeps a silent waiter, and a grant that was handed over but not confirmed."""
    lock_delay: float
    """Seconds the name stays closed after this holder was lost (not after it released); 0 unless LOCK_DELAY."""
    info: str
    """A small JSON object for people: host, pid, note. Stores keep it and never read it."""


class Grant(NamedTuple):
    """The store's yes to a claim."""

    claim: Claim
    token: int
    ttl: float
    """Seconds the store really keeps a silent holder, counted from `since`."""
    since: float
    """The runtime's clock, read *before* the last answered request about this grant was sent."""
    confirmed: bool = True
    """False for a grant handed over to a waiter: a lease of waiter_ttl until the first beat confirms it."""
    state: Any = None
    """For the store alone."""


class Inbox:
    """Where the news about one ticket arrive: by the store's push, or by the keeper's beat. The first one counts."""

    __slots__ = ("_event", "_news", "wakers")

    def __init__(self, event: Event) -> None:
        self._event = event
        self._news: Grant | Gone | BaseException | None = None
        self.wakers: list[Any] = []
        """Called after a delivery, for stores whose waiting thread sleeps on something else than this inbox."""

    def deliver(self, news: Grant | Gone | BaseException) -> None:
        """Put the news where the waiter finds them. Safe from any thread; later deliveries are dropped."""
        if self._news is None:
            self._news = news
        self._event.set()
        for wake in tuple(self.wakers):
            wake()

    def wake(self) -> None:
        """Wake the waiter without news, so that it looks at the world again."""
        self._event.set()

    def peek(self) -> Grant | Gone | BaseException | None:
        """The news, if there are any."""
        return self._news

    async def wait(self, timeout: float | None) -> bool:
        """Sleep until somebody wakes this inbox; False where `timeout` seconds passed first."""
        awake = await self._event.wait(timeout)
        self._event.clear()
        return awake


class Ticket:
    """A claim's place in line. Each enqueue gets a new number; a push for another number is not for us."""

    __slots__ = ("claim", "head_expires_in", "inbox", "number", "state", "word_at")

    def __init__(
        self,
        claim: Claim,
        number: int,
        word_at: float,
        inbox: Inbox,
        head_expires_in: float | None = None,
        state: Any = None,
    ) -> None:
        self.claim = claim
        self.number = number
        self.word_at = word_at
        """The runtime's clock, read before the last word *answered* "still waiting" was sent (or the enqueue)."""
        self.inbox = inbox
        self.head_expires_in = head_expires_in
        """Seconds after `word_at` when the store will have something to expire for the head of the line, if known."""
        self.state = state


@dataclass(frozen=True, slots=True)
class Held:
    """A beat's answer: the grant lives, for `ttl` seconds from `since` (see Grant)."""

    ttl: float
    since: float


@dataclass(frozen=True, slots=True)
class Lost:
    """A beat's answer: the store does not know this grant any more. For good."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A beat's answer: the ticket is still in line. `since` as in Grant; `head_expires_in` as in Ticket."""

    since: float
    head_expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """An answer to a waiter: it was silent for too long and was passed over; it must queue again, at the tail."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A beat's answer: this one could not be asked about. Says nothing about it, and nothing about the others."""

    error: StoreUnavailable


Word: TypeAlias = Held | Lost | Waiting | Grant | Gone | Unknown


@dataclass(frozen=True, slots=True)
class Cell:
    """A small shared value. Versions of one cell grow with every write, also across deletion."""

    value: bytes
    version: int


class Expect(enum.Enum):
    """What `put` and `delete` may expect of a cell besides a version."""

    ABSENT = "absent"
    """There is no such cell."""
    ANY = "any"
    """Whatever is there."""


ABSENT: Final = Expect.ABSENT
ANY: Final = Expect.ANY


@dataclass(frozen=True, slots=True)
class HolderView:
    """A holder as `inspect` shows it."""

    owner: str
    token: int
    permits: int
    since: float
    """Seconds since the grant."""
    expires_in: float
    info: str


@dataclass(frozen=True, slots=True)
class WaiterView:
    """A waiter as `inspect` shows it, in the order of the line."""

    owner: str
    permits: int
    since: float
    """Seconds since it joined the line."""
    info: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a store knows of a name. `token` is the last one granted, 0 where none is known."""

    name: str
    limit: int | None
    token: int
    holders: list[HolderView] = field(default_factory=list)
    waiters: list[WaiterView] = field(default_factory=list)
    closed_for: float = 0.0
    """Seconds a lock_delay still keeps the name closed."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some names, and where to go on; `next` is None at the end."""

    names: list[str]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What `diagnose` found: level "ok", "warning" or "error"; what is the case; what to do about it."""

    level: str
    what: str
    advice: str = ""


class Store(ABC):
    """A server that arbitrates. One instance belongs to one client and is used by all its threads or tasks at once."""

    guarantees: ClassVar[Guarantee]
    one_process: ClassVar[bool] = False
    """Whether the store lives in one process, so that others (a fork, a heartbeat process) cannot reach it."""
    by_session: ClassVar[bool] = False
    """Whether claims live by a session of their client, one for each ttl (etcd, Consul, ZooKeeper).

    Then a claim is silent only when its whole client is; a waiter is kept for as long as a holder, a ttl and not a
    waiter_ttl; and a grant needs no confirmation.
    """
    heart_from_outside: ClassVar[bool] = True
    """Whether another process can prolong a claim of this one; else `heartbeat="process"` is refused (ZooKeeper)."""
    by_connection: ClassVar[bool] = False
    """Whether a grant lives in one connection of the client that got it (session locks of a database).

    Then it is lost when that breaks, also while the store is well; no other client can repeat or give it back; and
    evicting it takes from its client whatever else lives in that connection.
    """
    exclusive_only: ClassVar[bool] = False
    """Whether the store knows no other claims than one permit of one: semaphores and read-write locks are refused."""
    min_ttl: ClassVar[float] = 0.01
    """The smallest ttl, in seconds, that the store can tell from nothing."""

    runtime: Runtime
    namespace: str
    alarm: Callable[[], None] | None = None
    """Set by the engine. A store that notices losses, or that it can be asked again, calls it, from any thread, and is
    asked about all its grants.
    """

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """A store at this URL. No I/O, no connection: that comes with the first request. Raises ConfigurationError."""

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Self:
        """A store over a driver's client that belongs to the user: never closed by us. Raises ConfigurationError."""
        raise ConfigurationError(f"{cls.__name__} takes a URL, not a {type(client).__name__}")

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the store is, for people: no secrets."""

    # Claims.

    @abstractmethod
    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        """Ask for permits: a Grant, or with `queue` a Ticket, or None (refused, nothing stays behind).

        Nobody is overtaken: where somebody is in line a claim waits or is refused even if its permits are free.
        Repeated by a holder it returns the same token with its ttl armed anew; repeated by a waiter, its ticket.
        A tombstoned owner is refused. Raises SettingsConflict where the name lives with another limit, StoreError.
        """

    def takes_together(self, claims: Sequence[Claim]) -> bool:
        """Whether `acquire_all` can take these claims in one step of the server. Local, no request.

        They are for one permit of one each, of different names in the order of their keys, and alike but for those and
        their owners.
        """
        return False

    async def acquire_all(self, claims: Sequence[Claim]) -> list[Grant] | None:
        """Grants of all these claims, in their order, given in one step; None: refused, nothing stays behind of any.

        Asked only where `takes_together` says yes. For each claim what `acquire` promises without `queue`: nobody is
        overtaken, a tombstoned owner is refused, repeated by holders it returns the same tokens with their ttls armed
        anew (and where one of them has been lost since then, refuses and gives the others back). Raises
        SettingsConflict where one of the names lives with another limit, and then too nothing stays behind; StoreError,
        after which each claim is to be abandoned.
        """
        raise NotImplementedError(f"{type(self).__name__} takes names one by one")

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """Sleep until the ticket's inbox may have news, at most `timeout` seconds; no requests. See Inbox."""
        if ticket.inbox.peek() is None:
            await ticket.inbox.wait(timeout)

    def leave(self, ticket: Ticket) -> None:  # noqa: B027 - most stores have nothing to forget
        """The engine will not wait for this ticket again: forget where its pushes would go. Local, no request."""

    @abstractmethod
    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """One batched word about all these grants and tickets: their answers, in order, grants first.

        A grant is renewed to its claim's ttl (which confirms it) and answered Held or Lost; expired grants are never
        revived. A ticket is answered Waiting, Gone, or with the Grant it has got (still unconfirmed). What could not be
        asked within `within` seconds is answered Unknown, one by one; raises StoreError only where nothing could be.
        """

    @abstractmethod
    async def release(self, grant: Grant) -> bool:
        """Give the permits back and grant from the head of the line, in one step. False: this grant is not known.

        Raises StoreError where the outcome is unknown; repeating is safe.
        """

    @abstractmethod
    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        """Undo whatever became of this claim: waiting, granted or never arrived. Idempotent.

        With `tombstone` the store refuses the owner afterwards, for as long as a stalled request may live.
        """

    # For people.

    @abstractmethod
    async def inspect(self, name: str) -> Inspection:
        """Holders and waiters of a name, expired ones left out. A name nobody uses has none of either."""

    @abstractmethod
    async def names(self, prefix: str, after: str | None = None) -> Page:
        """Names with holders or waiters that begin with `prefix`; go on with `after=page.next`. In no order."""

    @abstractmethod
    async def evict(self, name: str, token: int) -> bool:
        """Take the name from the holder with this token, as if its ttl had ended. False where nobody has it."""

    async def diagnose(self) -> list[Finding]:
        """Probe the server for what breaks promises. Raises StoreError where it cannot be asked."""
        return []

    # What must be on the server before the first request: tables and functions, in SQL databases.

    def ddl(self) -> list[str]:
        """The statements that create what this store needs, each without its final separator; [] where nothing is.

        No I/O: somebody who may run them reads them first (`locksmith init --sql`). Whatever is there already stays.
        """
        return []

    def script(self) -> str:
        """The statements of `ddl` as a text for the server's own client program."""
        return "".join(f"{statement.strip()};\n\n" for statement in self.ddl())

    async def create(self) -> None:  # noqa: B027 - most stores need nothing
        """Create what is missing of it. Idempotent. Raises StoreAuthError where this user may not, StoreError."""

    # Cells. Stores without the CELLS guarantee leave these as they are: all raise GuaranteeMissing.

    async def get(self, key: str) -> Cell | None:
        """The cell under this name, or None. `key` is a name as users write it, like all names here."""
        raise self._no_cells()

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        expect: int | Expect = ANY,
        ttl: float | None = None,
        guard: Grant | None = None,
    ) -> int:
        """Write a cell and return its new version.

        `ttl`: seconds after which it is gone (None: stays). `guard`: only while this grant is held, decided by the
        store in the same step; raises LeaseLost otherwise. Raises CellConflict (not as expected), CellTooLarge.
        """
        raise self._no_cells()

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        """Delete a cell; False where there was none. Raises CellConflict and LeaseLost as `put` does."""
        raise self._no_cells()

    async def cells(self, prefix: str, after: str | None = None) -> Page:
        """Names of cells that begin with `prefix`; go on with `after=page.next`. In no order.

        A cell that comes or goes meanwhile may be missed, listed twice, or gone when it is read. Of a name that is too
        long to be written reversibly nobody can be told. Stores that cannot list raise GuaranteeMissing.
        """
        raise GuaranteeMissing(f"{self.address} cannot list its cells: ask for one by its name")

    def _no_cells(self) -> GuaranteeMissing:
        return GuaranteeMissing(f"{self.address} keeps no cells: use a store that declares CELLS")

    async def changed(self, key: str, seen: int, wait: float) -> int:
        """The version of a cell (0: absent) as soon as it is not `seen`, or `seen` after `wait` seconds.

        This default asks again, at growing intervals of at most half a second; stores that push do better.
        """
        clock = self.runtime.clock
        deadline = clock.now() + wait
        pause = 0.005
        while True:
            cell = await self.get(key)
            version = cell.version if cell else 0
            left = deadline - clock.now()
            if version != seen or left <= 0:
                return version
            await self.runtime.sleep(min(pause, left))
            pause = min(pause * 1.5, 0.5)

    async def now(self) -> int | None:
        """The store's time in microseconds, or None without the CLOCK guarantee."""
        return None

    # Pace.

    async def pace(self, key: str, rates: tuple[Rate, ...], cost: int, *, at_most: float) -> Slot:
        """Book the next slot for `cost` at once, if it is within `at_most` seconds: by `pacing.decide`, in one step.

        By the store's clock; what nobody asks for any more is forgotten. Keys share nothing with names and cells. Where
        the answer is lost a slot may have been booked. Raises GuaranteeMissing without CLOCK, StoreError.
        """
        raise GuaranteeMissing(f"{self.address} has no clock to pace anything by: use a store that declares CLOCK")

    # Life.

    @abstractmethod
    async def close(self) -> None:
        """Close what we opened, never what the user passed in. Idempotent."""

    @abstractmethod
    def after_fork(self) -> None:
        """Called in a forked child: forget inherited connections *without closing them*, and make locks anew.

        Closing would speak on the parent's connection. The next request opens connections of this process.
        """
