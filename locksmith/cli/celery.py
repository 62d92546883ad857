"""`locksmith celery`: who has the key of a Singleton task, and taking it away."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click
from rich.table import Table
from rich.text import Text

from locksmith.cli import output
from locksmith.cli.output import duration, visible
from locksmith.cli.settings import Settings, common_options
from locksmith.client import Client
from locksmith.errors import ConfigurationError

if TYPE_CHECKING:
    from locksmith.celery.entries import Entry
    from locksmith.celery.ledger import Ledger, Place

_PROBED: Final = 4
"""Places of a key that are looked at beyond the last one that is taken: see singleton_max_queued."""


@click.group("celery")
def celery_command() -> None:
    """Keys of Celery tasks whose base is locksmith.celery.Singleton.

    KEY is what `task.key_for(arguments)` returns.
    """


@dataclass(frozen=True, slots=True)
class _Finding:
    """One entry of a key, judged."""

    place: Place
    part: str
    entry: Entry
    alive: bool | None
    """Whether the worker that runs it is heard of; None where that does not matter."""
    free: bool
    folded: int = 0

    @property
    def sentence(self) -> str:
        entry = self.entry
        said = {
            "queued": f"was published {duration(entry.age)} ago by {entry.by}, and no worker has begun it",
            "kept": f"has it until its ttl ends, since {duration(entry.age)} ago",
            "running": f"has run for {duration(entry.age)} in {entry.by}",
        }[entry.state]
        calls = "1 call was" if self.folded == 1 else f"{self.folded} calls were"
        folds = f"; {calls} folded into it" if self.folded else ""
        return f"task {entry.id} ({entry.task}) {said}{self._evidence}{folds}"

    @property
    def _evidence(self) -> str:
        if self.entry.state != "running":
            return ""
        if self.free:
            return "; that run is over, and the next equal call gets the key"
        if self.alive:
            return "; its worker counts as alive"
        if self.entry.worker is None:
            return "; that was no worker, so nobody can tell whether it still runs"
        return "; its worker is dead, and the broker will deliver the message again"

    def as_json(self) -> dict[str, Any]:
        entry = self.entry
        return {
            "part": self.part, "task_id": entry.id, "task": entry.task, "state": entry.state, "by": entry.by,
            "age": round(entry.age, 3), "acks_late": entry.late, "worker_alive": self.alive, "free": self.free,
            "folded": self.folded,
        }  # fmt: skip


@celery_command.command("status")
@click.argument("prefix", default="")
@common_options
def _status(settings: Settings, prefix: str) -> int:
    """List all keys that somebody has, or those that begin with PREFIX.

    Exit status 1 where there are none.
    """
    with settings.connect() as client:
        ledger = _ledger(client)
        found = [_finding(ledger, place, entry) for place, entry in ledger.held() if place.key.startswith(prefix)]
    found.sort(key=lambda one: (one.place.key, one.part))
    if settings.as_json:
        output.say_json({"entries": [{"key": one.place.key, **one.as_json()} for one in found]})
        return 0 if found else 1
    on = output.console()
    if not found:
        on.print(Text("nobody has a key"), soft_wrap=True)
        return 1
    table = Table("key", "", "task", "phase", "since", "by", "folded", box=None)
    for one in found:
        phase = f"{one.entry.state}, {'over' if one.free else 'worker dead' if one.alive is False else 'alive'}"
        cells = [one.place.key, one.part, one.entry.id, phase if one.entry.state == "running" else one.entry.state,
                 duration(one.entry.age), one.entry.by, str(one.folded)]  # fmt: skip
        table.add_row(*(Text(visible(cell), overflow="fold") for cell in cells))
    on.print(table)
    return 0


@celery_command.command("explain")
@click.argument("key")
@common_options
def _explain(settings: Settings, key: str) -> int:
    """Tell who has KEY, since when, and what an equal call would get.

    Exit status 1 where nobody has it.
    """
    with settings.connect() as client:
        found = _findings(client, key)
    if settings.as_json:
        output.say_json({"key": key, "entries": [one.as_json() for one in found]})
        return 0 if found else 1
    on = output.console()
    if not found:
        on.print(Text(f"nobody has {visible(key)}: a call gets it"), soft_wrap=True)
        return 1
    for one in found:
        on.print(Text(f"{one.part}: {visible(one.sentence)}"), soft_wrap=True)
    queue = [one for one in found if one.part != "run" and not one.free]
    would = f"is a duplicate of task {queue[0].entry.id}" if queue else "gets the key"
    on.print(Text(f"an equal call {visible(would)}"), soft_wrap=True)
    return 0


@celery_command.command("clear")
@click.argument("key")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common_options
def _clear(settings: Settings, key: str, yes: bool) -> int:
    """Take KEY from whoever has it: after a queue was purged, for example. Asks first.

    The call that had it is not stopped: if it runs, an equal one may now run beside it; if it is queued, it is judged
    anew when a worker begins it. Exit status 1 where nothing was cleared.
    """
    with settings.connect() as client:
        found = _findings(client, key)
        if found and not yes and not sys.stdin.isatty():
            raise ConfigurationError("there is no terminal to ask on: say --yes to clear without being asked")
        ledger = _ledger(client)
        cleared = []
        for one in found:
            question = f"{one.part}: {visible(one.sentence)}. Take it away?"
            # As it was judged: what has changed since then is left alone.
            if (yes or click.confirm(question, err=True)) and ledger.erase(one.place, one.entry):
                cleared.append(one)
    if settings.as_json:
        output.say_json({"key": key, "cleared": [one.as_json() for one in cleared]})
    else:
        said = f"taken from task {', '.join(one.entry.id for one in cleared)}" if cleared else "nothing was cleared"
        output.console().print(Text(f"{visible(key)}: {visible(said)}"), soft_wrap=True)
    return 0 if cleared else 1


def _ledger(client: Client) -> Ledger:
    from locksmith.celery.ledger import Ledger  # it needs Celery, and says so where that is missing

    return Ledger(client, lambda: None)


def _findings(client: Client, key: str) -> list[_Finding]:
    ledger = _ledger(client)
    from locksmith.celery.ledger import Place

    found, slot, empty = [], 0, 0
    while empty < _PROBED:
        place = Place(key, f"queue{slot}" if slot else "queue")
        entry = ledger.read(place)
        slot, empty = slot + 1, 0 if entry is not None else empty + 1
        if entry is not None:
            found.append(_finding(ledger, place, entry))
    run = Place(key, "run")
    entry = ledger.read(run)
    return found if entry is None else [*found, _finding(ledger, run, entry)]


def _finding(ledger: Ledger, place: Place, entry: Entry) -> _Finding:
    runs = entry.state == "running" and entry.worker is not None
    alive = ledger.presence(entry.worker or "") is not None if runs else None
    apart = place.what == "run"
    free = ledger.is_vacant(entry, redelivered=not apart)
    return _Finding(place, place.what, entry, alive, free, 0 if apart else ledger.folded(place, entry))
