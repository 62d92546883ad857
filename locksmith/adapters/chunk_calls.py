"""What is fixed about a chunked function, and what one call of it needs: the same for plain and async functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import BoundArguments, Signature
from typing import Any, Final

from locksmith import pacing
from locksmith.adapters.canonical import qualified
from locksmith.adapters.keys import KeyOf, key_maker, signature_of
from locksmith.chunks import Chunk
from locksmith.engine.core import Engine
from locksmith.errors import ConfigurationError
from locksmith.positions import Walk
from locksmith.recipes.chunk_job import ChunkJob
from locksmith.recipes.chunk_record import MOST_LANES
from locksmith.recipes.chunk_worker import ChunkWorker, Rules
from locksmith.recipes.permits import check_count, check_seconds
from locksmith.recipes.rates import RateRecipe

PARAMETER: Final = "chunk"
_ASKED: Final = 1.0
"""Seconds between two looks at what `hold_while` says."""
_WALKS: Final = ("plan", "planned", "first", "after", "total", "value", "items")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a job may go."""

    rates: tuple[pacing.Rate, ...] = ()
    pause: float = 0.0
    hold_while: Callable[[], object] | None = None

    @property
    def free(self) -> bool:
        """Whether nothing stands between two chunks."""
        return not self.rates and not self.pause and self.hold_while is None


class Calls:
    """A function with a parameter `chunk`, and how its calls become jobs. Raises ConfigurationError."""

    def __init__(
        self, fn: Callable[..., Any], over: Any, template: str | None, key: Any, rules: Rules, pace: Pace,
        keep: float | None,
    ) -> None:  # fmt: skip
        if not is_walk(over) and not callable(over):
            raise ConfigurationError(
                f"over= is a range such as ints(0, 1000, size=100), or a callable that returns one, not {over!r}"
            )
        self.fn = fn
        self.over = over
        self.rules = rules
        self.pace = pace
        self.keep = keep
        self.full = signature_of(fn)
        self.signature = without_chunk(fn, self.full)
        self.key_of: KeyOf = key_maker(stand_in(fn, self.signature), template, key, None)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BoundArguments:
        """The arguments of a call, which has no chunk. Raises TypeError."""
        try:
            return self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{getattr(self.fn, '__qualname__', self.fn)}(): {error}") from None

    def walk(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Walk:
        """What this call is over. Raises what a callable raises, ConfigurationError."""
        walk: Walk = self.over if is_walk(self.over) else self.over(*args, **kwargs)
        if not is_walk(walk):
            raise ConfigurationError(f"over= of {qualified(self.fn)} returned {walk!r}, which is no range")
        return walk

    def run(self, bound: BoundArguments, chunk: Chunk[Any]) -> Any:
        """Call the function with its chunk."""
        whole = BoundArguments(self.full, {**bound.arguments, PARAMETER: chunk})
        return self.fn(*whole.args, **whole.kwargs)


class Course:
    """One process's way through one job, but for running the function."""

    def __init__(self, calls: Calls, worker: ChunkWorker, job: ChunkJob, key: str) -> None:
        self.worker = worker
        self.job = job
        self._pace = calls.pace
        self._key = key
        self._first = True

    @staticmethod
    async def begin(calls: Calls, client: Any, key: str, walk: Walk) -> Course:
        """Begin the job, or join it; one that has stopped goes on."""
        job = ChunkJob(client._engine, key)
        record = await job.begin(walk, keep=calls.keep)
        if record.state == "failed":
            record = await job.resume() or record
        return Course(calls, ChunkWorker(client._settings, job, walk, record, calls.rules), job, key)

    async def next(self) -> Any:
        """The next chunk to run; None at the end."""
        if not self._pace.free and not self.over:
            await self._wait()
        return await self.worker.claim()

    @property
    def over(self) -> bool:
        """Whether the job was over when we looked last."""
        last = self.worker.last
        return last is not None and last.state in ("done", "cancelled")

    async def done(self) -> None:
        """The function has returned."""
        await self.worker.finish(claim=self._pace.free)

    async def failed(self, error: Exception) -> bool:
        """The function has raised: True where it is to be tried again, after a pause that this takes."""
        hold = self.worker.hold
        if hold is not None and not hold.held:
            await self.worker.finish(claim=False)  # which finds the chunk lost
            return True
        pause = await self.worker.failed(error)
        if pause is None:
            return False
        if pause:
            await self.worker.job.engine.runtime.sleep(pause)
        return True

    async def _wait(self) -> None:
        engine: Engine = self.job.engine
        if not self._first and self._pace.pause:
            await engine.runtime.sleep(self._pace.pause)
        self._first = False
        while self._pace.hold_while is not None and self._pace.hold_while():
            await engine.runtime.sleep(_ASKED)
        if self._pace.rates:
            await RateRecipe(engine, f"chunks:{self._key}", self._pace.rates).take(1, None, None)


def rules_of(most: int, retries: int, retry_pause: float, ttl: float | None) -> Rules:
    """Checked. Raises ConfigurationError."""
    if retries != 0:
        check_count("retries", retries, most=1000)
    return Rules(
        check_count("at_most", most, most=MOST_LANES), retries, check_seconds("retry_pause", retry_pause),
        None if ttl is None else check_seconds("ttl", ttl, positive=True),
    )  # fmt: skip


def pace_of(rate: str | tuple[str, ...] | None, pause: float, hold_while: Callable[[], object] | None) -> Pace:
    """Checked. Raises ConfigurationError."""
    texts = () if rate is None else (rate,) if isinstance(rate, str) else tuple(rate)
    if hold_while is not None and not callable(hold_while):
        raise ConfigurationError(f"hold_while= is a callable that says whether to wait, not {hold_while!r}")
    return Pace(pacing.parse(texts) if texts else (), check_seconds("pause", pause), hold_while)


def is_walk(value: object) -> bool:
    """Whether something can be walked in chunks."""
    return all(hasattr(value, word) for word in _WALKS)


def without_chunk(fn: Callable[..., Any], full: Signature) -> Signature:
    """The signature that callers see. Raises ConfigurationError where the function has no place for its chunk."""
    found = full.parameters.get(PARAMETER)
    if found is None or found.kind in (found.VAR_POSITIONAL, found.VAR_KEYWORD):
        raise ConfigurationError(f"{qualified(fn)} gets each chunk in its parameter `chunk`: give it one")
    return full.replace(parameters=[each for name, each in full.parameters.items() if name != PARAMETER])


def stand_in(fn: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    """What looks like the function without its chunk: its name and the other arguments make the key."""

    def bare(*args: Any, **kwargs: Any) -> None: ...

    functools.update_wrapper(bare, fn)
    del bare.__wrapped__  # type: ignore[attr-defined]  # update_wrapper has set it
    bare.__signature__ = signature  # type: ignore[attr-defined]  # functions may have one
    if not inspect.isfunction(fn):
        bare.__qualname__ = qualified(fn)
    return bare
