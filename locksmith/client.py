"""The blocking face: a thin mirror of `locksmith.aio`. What happens is decided in `locksmith.engine`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, overload

from locksmith.connecting import Settings, settle
from locksmith.engine.core import Engine
from locksmith.engine.lease import LeaseFace, is_lost, wait_lost
from locksmith.errors import AcquireTimeout, InheritedLease, StoreError
from locksmith.events import Hook, add_hook, logger, remove_hook
from locksmith.recipes.permits import ALL, Permits, check_wait
from locksmith.runtime import Blocking, Clock, drive
from locksmith.store import Finding, Guarantee, Inspection

if TYPE_CHECKING:
    from locksmith.cells import Cell
    from locksmith.elections import Election
    from locksmith.multilocks import MultiLock
    from locksmith.rates import RateLimit


class LostSignal:
    """The end of a lease that nobody gave back, to ask for or to wait for."""

    __slots__ = ("_lease",)

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def is_set(self) -> bool:
        """Whether the lease was lost."""
        return is_lost(self._lease._hold)

    def wait(self, timeout: float | None = None) -> bool:
        """True as soon as the lease is lost; False where it was released, or `timeout` seconds passed, before."""
        return drive(wait_lost(self._lease._engine, self._lease._hold, timeout))


class Block:
    """What is given back at the end of a `with`, if not before."""

    __slots__ = ()

    def release(self) -> bool:
        """Give it back."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except StoreError as failed:
            # The work was done under the lease; that giving back is late must not make it look undone.
            logger.debug("leaving %r: %s", self, failed)
        except InheritedLease:
            pass  # a forked child leaves the block of its parent, which holds on
        except Exception:
            if error is None:
                raise


class Lease(Block, LeaseFace):
    """One acquisition. Give it back with `release()`, or use it in a `with`, which does."""

    __slots__ = ()

    @property
    def lost(self) -> LostSignal:
        """Set when the lease was lost; `lost.wait(timeout)` waits for it."""
        return LostSignal(self)

    def release(self) -> bool:
        """True: given back. False: was released before. Raises LeaseLost where it was lost.

        Raises StoreError where the store could not be asked: renewal has ended, giving back goes on being tried until
        the ttl has passed, and calling this again is safe.
        """
        return drive(self._engine.release(self._hold))


class Lock:
    """A name with settings: stateless, cheap, to be shared between threads. Each acquisition is a Lease of its own."""

    __slots__ = ("_engine", "_permits")

    def __init__(self, engine: Engine, permits: Permits) -> None:
        self._engine = engine
        self._permits = permits

    @property
    def name(self) -> str:
        """The name this locks."""
        return self._permits.name

    def acquire(
        self, *, wait: float | None = None, permits: int = 1, note: str | None = None, max_hold: float | None = None
    ) -> Lease:
        """A lease, after standing in line for at most `wait` seconds (None: without bound, 0: one try).

        `note` is shown to people who list holders. `max_hold`: seconds after which the lease ends even if renewed.
        Raises AcquireTimeout, SelfDeadlock, SettingsConflict, StoreError, ConfigurationError, ClientClosed.
        """
        lease = self._obtain(check_wait(wait), permits, note, max_hold)
        if lease is None:
            raise AcquireTimeout(f"{self.name!r} was not free within {wait} s: nothing is held; try again later")
        return lease

    def try_acquire(self, *, permits: int = 1, note: str | None = None, max_hold: float | None = None) -> Lease | None:
        """A lease, or None where somebody has the name or waits for it. One request. Raises as `acquire` does."""
        return self._obtain(0.0, permits, note, max_hold)

    def _obtain(self, wait: float | None, permits: int, note: str | None, max_hold: float | None) -> Lease | None:
        claim = self._permits.claim(permits, note, max_hold)
        acquire = self._engine.acquire_strictly if self._permits.strict_ttl else self._engine.acquire
        hold = drive(acquire(claim, wait, max_hold))
        return None if hold is None else Lease(self._engine, hold)

    def __enter__(self) -> NoReturn:
        raise TypeError("a lock is only a name: write `with lock.acquire() as lease:`")

    def __exit__(self, *exc: object) -> None: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} at {self._engine.store.address}>"


class Semaphore(Lock):
    """Permits out of a limit; `acquire(permits=n)` takes n of them at once."""

    __slots__ = ()


class RWLock:
    """Many readers or one writer, in the order in which they came: writers do not starve."""

    __slots__ = ("_read", "_write")

    def __init__(self, read: Lock, write: Lock) -> None:
        self._read = read
        self._write = write

    @property
    def name(self) -> str:
        """The name this locks."""
        return self._read.name

    def read(self) -> Lock:
        """The lock that many may hold at once."""
        return self._read

    def write(self) -> Lock:
        """The lock that excludes everybody else."""
        return self._write


class Client:
    """A process's connection to a store. Made by `connect`; close it, or use it in a `with`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = settings.engine

    @property
    def address(self) -> str:
        """Where the store is, for people: without secrets."""
        return self._engine.store.address

    @property
    def guarantees(self) -> Guarantee:
        """What the store promises."""
        return self._engine.store.guarantees

    def lock(self, name: str, *, ttl: float | None = None, lock_delay: float = 0.0, strict_ttl: bool = False) -> Lock:
        """An exclusive lock. `ttl`: seconds the store keeps a silent holder, not the length of the job.

        `lock_delay`: seconds the name stays closed after a holder was lost. `strict_ttl`: raise InvalidTTL where the
        store has to round the ttl up. Raises InvalidName, InvalidTTL, GuaranteeMissing; sends nothing.
        """
        return Lock(self._engine, self._settings.permits(name, ttl, lock_delay=lock_delay, strict_ttl=strict_ttl))

    def semaphore(
        self, name: str, *, limit: int, ttl: float | None = None, lock_delay: float = 0.0, strict_ttl: bool = False
    ) -> Semaphore:
        """`limit` permits of a name; everybody who uses the name must use the same limit. Otherwise as `lock`."""
        return Semaphore(
            self._engine,
            self._settings.permits(name, ttl, limit=limit, lock_delay=lock_delay, strict_ttl=strict_ttl),
        )

    def rwlock(
        self, name: str, *, ttl: float | None = None, lock_delay: float = 0.0, strict_ttl: bool = False
    ) -> RWLock:
        """A read-write lock: `.read()` and `.write()` are locks. Otherwise as `lock`."""
        read = self._settings.permits(name, ttl, limit=ALL, lock_delay=lock_delay, strict_ttl=strict_ttl)
        write = self._settings.permits(name, ttl, limit=ALL, permits=ALL, lock_delay=lock_delay, strict_ttl=strict_ttl)
        return RWLock(Lock(self._engine, read), Lock(self._engine, write))

    def lock_all(
        self, names: Iterable[str], *, ttl: float | None = None, lock_delay: float = 0.0, strict_ttl: bool = False
    ) -> MultiLock:
        """An exclusive lock of several names, 64 at most, in any order: all of them or none. Otherwise as `lock`.

        Raises ConfigurationError (no name, too many, one twice), InvalidName, InvalidTTL, GuaranteeMissing.
        """
        from locksmith.multilocks import MultiLock  # not everybody has multi-locks

        return MultiLock(self._engine, self._settings.together(names, ttl, lock_delay, strict_ttl))

    def election(self, name: str, *, ttl: float | None = None, lock_delay: float = 0.0) -> Election:
        """A candidate for a name that one of many leads. `ttl`: seconds after which a silent leader is succeeded.

        `lock_delay`: seconds nobody is elected after a leader was lost. Raises InvalidName, InvalidTTL,
        GuaranteeMissing where the store lacks FENCED, FIFO or CELLS; sends nothing.
        """
        from locksmith.elections import Election  # not everybody has elections

        return Election(self._engine, self._settings.permits(name, ttl, lock_delay=lock_delay))

    @overload
    def cell(self, name: str, *, raw: Literal[False] = False) -> Cell[Any]: ...

    @overload
    def cell(self, name: str, *, raw: Literal[True]) -> Cell[bytes]: ...

    def cell(self, name: str, *, raw: bool = False) -> Cell[Any]:
        """A small shared value: whatever JSON can express, or with `raw` bytes as they are; 64 KB at most.

        Raises InvalidName, GuaranteeMissing where the store lacks CELLS; sends nothing.
        """
        from locksmith.cells import Cell  # not everybody has cells
        from locksmith.recipes.cells import CellRecipe

        return Cell(CellRecipe(self._engine, name, raw=raw))

    def rate_limit(self, name: str, *rates: str, burst: int | Sequence[int] = 0) -> RateLimit:
        """At most so many in any window, as "70/s", "1000/h" or "10/15m" say; all of them at once count.

        `burst`: how many more may come at once, beyond the pace, in each window; one number, or one for each rate.
        Raises ConfigurationError, InvalidName, GuaranteeMissing where the store lacks CLOCK; sends nothing.
        """
        from locksmith.rates import RateLimit  # not everybody has rate limits
        from locksmith.recipes.rates import RateRecipe, parse

        return RateLimit(RateRecipe(self._engine, name, parse(rates, burst)))

    def inspect(self, name: str) -> Inspection:
        """Who holds a name and who waits for it. Raises StoreError."""
        return drive(self._engine.store.inspect(name))

    def names(self, prefix: str = "") -> Iterator[str]:
        """Names with holders or waiters that begin with `prefix`, page by page, in no order. Raises StoreError."""
        after = None
        while True:
            page = drive(self._engine.store.names(prefix, after))
            yield from page.names
            if (after := page.next) is None:
                return

    def evict(self, name: str, token: int) -> bool:
        """Take a name from the holder with this token, who learns it with its next beat. Raises StoreError."""
        return drive(self._engine.store.evict(name, token))

    def diagnose(self) -> list[Finding]:
        """Probe the server for what breaks promises. Raises StoreError."""
        return drive(self._engine.store.diagnose())

    def add_hook(self, hook: Hook) -> None:
        """Give the records of `locksmith.events` to this hook too, once however often it is added, from now on.

        Raises ConfigurationError for what cannot be called.
        """
        add_hook(self._engine.hooks, hook)

    def remove_hook(self, hook: Hook) -> None:
        """Give it no more of them; nothing happens where it was not added."""
        remove_hook(self._engine.hooks, hook)

    def close(self) -> None:
        """Give back what is held, leave every line and close what we opened. Idempotent."""
        drive(self._engine.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._engine.store.address}{' (closed)' if self._engine.closed else ''}>"


def connect(
    target: object,
    *,
    ttl: float = 30.0,
    waiter_ttl: float = 10.0,
    namespace: str = "locksmith",
    require: Guarantee | str | Iterable[str] = Guarantee.NONE,
    hooks: Iterable[Hook] = (),
    heartbeat: str = "thread",
    clock: Clock | None = None,
) -> Client:
    """A client of the store at a URL, or over a driver's client that stays yours. No connection is made yet.

    `ttl`: the default of this client's names. `waiter_ttl`: seconds the store keeps a silent waiter. `namespace`
    keeps users of one server apart. `require`: guarantees without which GuaranteeMissing is raised, as flags or names
    ("fenced", "durable"). `hooks` take the records of `locksmith.events`. `heartbeat="process"` renews from a small
    child process, for work that starves threads. `clock` is for tests.
    Raises UnknownScheme, DriverMissing, GuaranteeMissing, ConfigurationError.
    """
    return Client(settle(target, Blocking(clock), ttl, waiter_ttl, namespace, require, hooks, heartbeat))
