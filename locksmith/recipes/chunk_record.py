"""What the store knows of a chunked job: one cell, as plain data, and how each event changes it. No clock, no store.

A job has one cursor, before which every chunk was handed out, and lanes. A lane is a name to be locked and at most one
chunk that is not finished; so what lies before the cursor and in no lane is finished. That is all there is to remember,
however long the job is: a crashed chunk stays in its lane, and whoever locks the lane next takes it over.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, get_args

from locksmith.errors import ConfigurationError

FORMAT: Final = 1
MOST_LANES: Final = 64
WINDOW: Final = 30.0
"""Seconds between two marks from which the pace is known."""
State = Literal["running", "paused", "failed", "cancelled", "done"]
OVER: Final = ("cancelled", "done")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A chunk in a lane."""

    number: int
    """Counted from 0, in the order of the walk."""
    start: Any
    end: Any
    much: float
    """How much of the whole it is."""
    token: int
    """Of the lease of the lane under which it was begun last: only that one may finish it."""
    by: str
    """host:pid of who began it last."""
    at: float
    """Wall clock of that host, for people."""
    tries: int = 1
    """How often it was begun."""
    errors: int = 0
    """How often its function raised."""

    def again(self, token: int, by: str, at: float, *, error: bool = False) -> Claimed:
        """Begun once more."""
        return replace(self, token=token, by=by, at=at, tries=self.tries + 1, errors=self.errors + error)


@dataclass(frozen=True, slots=True)
class Record:
    """A job."""

    id: str
    """Another one each time the job begins anew."""
    kind: str
    plan: Any
    cursor: Any
    """Where the next chunk begins that nobody has begun yet."""
    began: float
    """Wall clock, for people, as all times here."""
    total: float | None = None
    state: State = "running"
    exhausted: bool = False
    """Whether every chunk was handed out."""
    lanes: dict[int, Claimed] = field(default_factory=dict)
    handed: int = 0
    """Chunks that were handed out."""
    done: int = 0
    """Chunks that were finished."""
    finished: float = 0.0
    """How much of the whole those are."""
    ended: float | None = None
    error: str | None = None
    marks: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    """Two moments, and how much was finished then: the pace of late."""
    keep: float | None = None
    """Seconds for which it is remembered once it is over; None: for good."""
    note: Any = None
    """What an adapter keeps beside."""
    version: int = 0
    """Of the cell it was read from."""

    # Chunks.

    def claimed(self, lane: int, chunk: Claimed) -> Record:
        """A chunk was handed out."""
        return replace(self, cursor=chunk.end, handed=self.handed + 1, lanes={**self.lanes, lane: chunk})

    def begun(self, lane: int, chunk: Claimed) -> Record:
        """The chunk of a lane is begun once more."""
        return replace(self, lanes={**self.lanes, lane: chunk})

    def without(self, lane: int, now: float) -> Record:
        """The chunk of a lane is finished."""
        chunk = self.lanes[lane]
        finished = self.finished + chunk.much
        marks = self.marks if now - self.marks[1][0] < WINDOW else (self.marks[1], (now, finished))
        rest = {key: each for key, each in self.lanes.items() if key != lane}
        return replace(self, lanes=rest, done=self.done + 1, finished=finished, marks=marks)

    def drained(self) -> Record:
        """There are no chunks beyond the cursor."""
        return replace(self, exhausted=True)

    def settled(self, now: float) -> Record:
        """Done, where nothing is left."""
        if self.state == "running" and self.exhausted and not self.lanes:
            return replace(self, state="done", ended=now)
        return self

    # Steering.

    def paused(self) -> Record:
        """No chunk is begun any more."""
        return replace(self, state="paused") if self.state in ("running", "failed") else self

    def resumed(self, now: float) -> Record:
        """Chunks are begun again; those that had failed too often as well."""
        if self.state not in ("paused", "failed"):
            return self
        lanes = {lane: replace(chunk, errors=0) for lane, chunk in self.lanes.items()}
        marks = ((now, self.finished), (now, self.finished))
        return replace(self, state="running", error=None, lanes=lanes, marks=marks).settled(now)

    def cancelled(self, now: float) -> Record:
        """No chunk is begun any more, for good."""
        return self if self.state in OVER else replace(self, state="cancelled", ended=now)

    def failed(self, error: str) -> Record:
        """A chunk has failed too often."""
        return replace(self, state="failed", error=error) if self.state == "running" else replace(self, error=error)

    # For people.

    @property
    def fraction(self) -> float | None:
        """From 0 to 1; None where nobody knows how much there is."""
        if self.state == "done":
            return 1.0
        return min(1.0, self.finished / self.total) if self.total else None

    def left(self, now: float) -> float | None:
        """Seconds until the end, at the pace of late; None where nobody can tell."""
        if self.state == "done":
            return 0.0
        since, before = self.marks[0]
        if self.state != "running" or not self.total or self.finished <= before or now <= since:
            return None
        return max(0.0, self.total - self.finished) * (now - since) / (self.finished - before)

    # As a cell.

    def dump(self) -> bytes:
        """Its JSON."""
        told = {name: value for name, value in asdict(self).items() if name != "version"}
        return json.dumps({"v": FORMAT, **told}, separators=(",", ":"), allow_nan=False).encode("ascii")

    @staticmethod
    def load(raw: bytes, version: int, name: str) -> Record:
        """Of a cell's value. Raises ConfigurationError where something else has written it."""
        try:
            told = json.loads(raw)
            if told.pop("v") != FORMAT or told["state"] not in get_args(State):
                raise ValueError
            lanes = {int(lane): Claimed(**chunk) for lane, chunk in told.pop("lanes").items()}
            (at, much), (later, more) = told.pop("marks")
            return Record(**told, lanes=lanes, marks=((at, much), (later, more)), version=version)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigurationError(
                f"what the store has of the chunked job {name!r} was not written by this version of locksmith: wait "
                f"until all processes run the same version, or begin under another name"
            ) from None
