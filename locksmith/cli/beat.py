"""`locksmith beat`: who fires a schedule of Celery's, what is due, and orders to whoever does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from locksmith.cli import output
from locksmith.cli.output import duration, visible
from locksmith.cli.settings import Settings, common_options
from locksmith.client import Client
from locksmith.errors import ConfigurationError
from locksmith.recipes.election import Leader

if TYPE_CHECKING:
    from locksmith.celery.beat.notices import Notices, Orders, Report

schedule_option = click.option(
    "--schedule", metavar="NAME", help="The schedule; the name of the Celery application. Default: the only one."
)


@click.group("beat")
def beat_command() -> None:
    """Celery beats that use locksmith: `celery -A proj beat -S locksmith`."""


@dataclass(frozen=True, slots=True)
class _Share:
    """What is known of one share of a schedule."""

    leader: Leader | None
    standbys: int
    report: Report | None
    """Of the leader, or of one of those that fire without one."""

    @property
    def fires(self) -> bool:
        return self.leader is not None or (self.report is not None and self.report.term == 0)

    @property
    def sentence(self) -> str:
        leader, report = self.leader, self.report
        if leader is not None:
            who = f"{leader.note or 'a beat'} ({leader.host}, pid {leader.pid}) leads since {duration(leader.since)}"
        else:
            who = "fired by all beats together" if self.fires else "nobody leads"
        said = f"{who}, {self.standbys} standing by"
        if report is not None:
            said += f"; {report.entries} entries, {report.sent} fires sent, the latest {report.lag:.3f} s late"
            said += f", {report.open} wait for the broker" if report.open else ""
        return said

    def as_json(self) -> dict[str, Any]:
        leader, report = self.leader, self.report
        return {
            "leader": None if leader is None else {
                "name": leader.note, "host": leader.host, "pid": leader.pid, "term": leader.term,
                "since": round(leader.since, 3),
            },
            "standbys": self.standbys,
            "report": None if report is None else asdict(report),
        }  # fmt: skip


@beat_command.command("status")
@schedule_option
@common_options
def _status(settings: Settings, schedule: str | None) -> int:
    """Tell who leads, who stands by, and how late fires are. Exit status 1 where nobody leads, or not every share."""
    with settings.connect() as client:
        name = _named(client, schedule)
        shares, orders = _shares(client, name), _notices(client, name).orders()[0]
    good = all(share.fires for share in shares)
    if settings.as_json:
        told = {"schedule": name, "shares": [share.as_json() for share in shares]}
        output.say_json({**told, "paused": list(orders.paused), "added": sorted(orders.added)})
        return 0 if good else 1
    on = output.console()
    for number, share in enumerate(shares):
        which = f"{name}, share {number} of {len(shares)}" if len(shares) > 1 else name
        on.print(Text(f"{visible(which)}: {visible(share.sentence)}"), soft_wrap=True)
    if orders.paused:
        on.print(Text(f"paused: {visible(', '.join(orders.paused))}"), soft_wrap=True)
    return 0 if good else 1


@beat_command.command("next")
@schedule_option
@common_options
def _next(settings: Settings, schedule: str | None) -> int:
    """Show what is due next, as the beats that fire have reported. Exit status 1 where none has."""
    with settings.connect() as client:
        reports = [share.report for share in _shares(client, _named(client, schedule)) if share.report]
    due = sorted(pair for report in reports for pair in report.due)
    if settings.as_json:
        output.say_json([{"entry": entry, "at": at} for at, entry in due])
    else:
        table = Table("entry", "due in")
        for at, entry in due:
            table.add_row(visible(entry), duration(max(at - time.time(), 0.0)))
        output.console().print(table)
    return 0 if reports else 1


@beat_command.command("ls")
@schedule_option
@common_options
def _list(settings: Settings, schedule: str | None) -> int:
    """List the entries that beats know of: when each was due last, and how often it was sent."""
    with settings.connect() as client:
        name = _named(client, schedule)
        from locksmith.celery.beat.book import PAGES, Book

        book, paused = Book(client, name), _notices(client, name).orders()[0].paused
        lines = sorted(pair for number in range(PAGES) for pair in book.read(number).lines.items())
    if settings.as_json:
        output.say_json(
            [
                {"entry": entry, "last": line.last / 1e6, "count": line.count, "open": len(line.open),
                 "paused": entry in paused}
                for entry, line in lines
            ]
        )  # fmt: skip
        return 0
    table = Table("entry", "last due", "sent", "")
    for entry, line in lines:
        state = "paused" if entry in paused else "waits for the broker" if line.open else ""
        ago = duration(max(time.time() - line.last / 1e6, 0.0))
        table.add_row(visible(entry), f"{ago} ago", str(line.count), state)
    output.console().print(table)
    return 0


@beat_command.command("pause")
@click.argument("entry", nargs=-1, required=True)
@schedule_option
@common_options
def _pause(settings: Settings, schedule: str | None, entry: tuple[str, ...]) -> int:
    """Leave out the fires of these entries until `resume`."""
    return _order(
        settings, schedule, "paused", entry, lambda was: replace(was, paused=tuple(sorted({*was.paused, *entry})))
    )


@beat_command.command("resume")
@click.argument("entry", nargs=-1, required=True)
@schedule_option
@common_options
def _resume(settings: Settings, schedule: str | None, entry: tuple[str, ...]) -> int:
    """Fire these entries again; what was left out meanwhile is not caught up."""
    return _order(
        settings, schedule, "resumed", entry, lambda was: replace(was, paused=tuple(sorted({*was.paused} - {*entry})))
    )


@beat_command.command("add")
@click.argument("entry")
@click.argument("task")
@click.option("--every", type=float, help="Seconds from one fire to the next.")
@click.option("--crontab", metavar="FIELDS", help="Minute, hour, day of month, month, day of week, in one word.")
@click.option("--args", metavar="JSON", default="[]", show_default=True)
@click.option("--kwargs", metavar="JSON", default="{}", show_default=True)
@click.option("--options", metavar="JSON", default="{}", show_default=True, help='For example {"queue": "slow"}.')
@click.option("--misfire", type=click.Choice(["once", "skip", "all"]), help="What becomes of missed fires.")
@schedule_option
@common_options
def _add(
    settings: Settings, schedule: str | None, entry: str, task: str, every: float | None, crontab: str | None,
    args: str, kwargs: str, options: str, misfire: str | None,
) -> int:  # fmt: skip
    """Add an entry beside those of the configuration, or replace it."""
    if (every is None) == (crontab is None):
        raise ConfigurationError("an entry has either --every or --crontab")
    told: dict[str, Any] = {"task": task, "schedule": every if crontab is None else crontab}
    told |= {"args": _json("--args", args, list), "kwargs": _json("--kwargs", kwargs, dict)}
    told |= {"options": _json("--options", options, dict), **({"misfire": misfire} if misfire else {})}
    from locksmith.celery.beat.entry import entry_of

    entry_of(entry, told, None)  # what no beat could fire is refused here
    return _order(settings, schedule, "added", (entry,), lambda was: replace(was, added={**was.added, entry: told}))


@beat_command.command("rm")
@click.argument("entry")
@schedule_option
@common_options
def _remove(settings: Settings, schedule: str | None, entry: str) -> int:
    """Remove an entry that was added."""
    with settings.connect() as client:
        if entry not in _notices(client, _named(client, schedule)).orders()[0].added:
            raise ConfigurationError(f"{entry!r} was not added here, so it cannot be removed: see locksmith beat ls")

    def without(was: Orders) -> Orders:
        return replace(was, added={name: told for name, told in was.added.items() if name != entry})

    return _order(settings, schedule, "removed", (entry,), without)


@beat_command.command("reload")
@schedule_option
@common_options
def _reload(settings: Settings, schedule: str | None) -> int:
    """Have the beat that fires read its schedule anew."""
    return _order(settings, schedule, "to be read anew", (), lambda was: replace(was, reload=was.reload + 1))


@beat_command.command("handover")
@click.option("--wait", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds until done.")
@schedule_option
@common_options
def _handover(settings: Settings, schedule: str | None, wait: float) -> int:
    """Have the next beat in line lead. Exit status 1 where that was not done in time, or nobody leads."""
    with settings.connect() as client:
        name = _named(client, schedule)
        terms = {str(n): share.leader.term for n, share in enumerate(_shares(client, name)) if share.leader}
        _notices(client, name).order(lambda was: replace(was, handover=terms))
        heirs = [_heir(client, _beat().election_of(name, int(n), len(terms)), term, wait) for n, term in terms.items()]
    done = bool(heirs) and None not in heirs
    said = f"{', '.join(filter(None, heirs))} leads" if done else f"not done in {wait:g} s" if heirs else "nobody leads"
    if settings.as_json:
        output.say_json({"schedule": name, "done": done, "leaders": heirs})
    else:
        output.console().print(Text(f"{visible(name)}: {visible(said)}"), soft_wrap=True)
    return 0 if done else 1


def _heir(client: Client, election: str, term: int, wait: float) -> str | None:
    """The name of whoever leads after this term; None where that took too long."""
    for seen in client.election(election).observe(wait=wait):
        if seen is not None and seen.term != term:
            return seen.note or seen.host
    return None


def _order(
    settings: Settings, schedule: str | None, verb: str, entries: tuple[str, ...], change: Callable[[Orders], Orders]
) -> int:
    with settings.connect() as client:
        name = _named(client, schedule)
        _notices(client, name).order(change)
    if settings.as_json:
        output.say_json({"schedule": name, "done": verb, "entries": list(entries)})
    else:
        what = f"{', '.join(entries)}: " if entries else ""
        said = f"{what}{verb}; whoever fires {name} sees it within a second"
        output.console().print(Text(visible(said)), soft_wrap=True)
    return 0


def _named(client: Client, schedule: str | None) -> str:
    """The schedule that is meant. Raises ConfigurationError where that is not clear."""
    if schedule is not None:
        return schedule
    found = {_beat().share_of(name)[0] for name in client.names(_beat().ELECTION)}
    if len(found) != 1:
        known = f"there are {', '.join(sorted(found))}" if found else "no beat runs here"
        raise ConfigurationError(f"which schedule is meant? Say --schedule; {known}")
    return str(found.pop())


def _notices(client: Client, schedule: str) -> Notices:
    notices: Notices = _beat().Notices(client, schedule)
    return notices


def _beat() -> Any:
    from locksmith.celery.beat import notices  # it needs Celery, and says so where that is missing

    return notices


def _shares(client: Client, schedule: str) -> list[_Share]:
    notices, undivided = _notices(client, schedule), _beat().election_of(schedule, 0, 1)
    elections = [name for name in client.names(undivided) if _beat().share_of(name)[0] == schedule]
    shares = 1
    if undivided not in elections:
        report = notices.report()
        shares = max([1 if report is None else report.shards, *(_beat().share_of(name)[1] + 1 for name in elections)])
    return [_share(client, notices, _beat().election_of(schedule, number, shares), number) for number in range(shares)]


def _share(client: Client, notices: Notices, election: str, number: int) -> _Share:
    leader, report = client.election(election).leader(), notices.report(number)
    if report is not None and report.term != 0 and (leader is None or leader.term != report.term):
        report = None
    return _Share(leader, len(client.inspect(election).waiters), report)


def _json(what: str, text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{what} is JSON, not {text!r}: {error}") from error
    if not isinstance(value, kind):
        raise ConfigurationError(f"{what} is a JSON {'array' if kind is list else 'object'}, not {text!r}")
    return value
