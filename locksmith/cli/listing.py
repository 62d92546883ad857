"""`locksmith ls` and `locksmith show`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from locksmith.cli import output
from locksmith.cli.output import duration, visible
from locksmith.cli.records import Holder, Record, Waiter, read, read_all
from locksmith.cli.settings import Settings, common_options


@click.command("ls")
@click.argument("prefix", default="")
@common_options
def ls_command(settings: Settings, prefix: str) -> int:
    """Names in use: who holds them, and how many wait.

    Only names that begin with PREFIX, where one is given.
    """
    with settings.connect() as client:
        records = list(read_all(client, prefix))
    if settings.as_json:
        output.say_json([record.as_json() for record in records])
    elif records:
        output.console().print(names_table(records))
    else:
        output.console().print(Text(nothing(settings, prefix), style="dim"), soft_wrap=True)
    return 0


@click.command("show")
@click.argument("name")
@common_options
def show_command(settings: Settings, name: str) -> int:
    """Everything the store knows of NAME: holders, and the line in its order.

    Exit status 1 where nobody holds NAME or waits for it.
    """
    with settings.connect() as client:
        record = read(client, name)
    if settings.as_json:
        output.say_json(record.as_json())
    else:
        show(output.console(), record)
    return 0 if record.used else 1


def nothing(settings: Settings, prefix: str) -> str:
    """What is said where there is nothing to list."""
    which = f"no name that begins with {visible(prefix)}" if prefix else "no name"
    return f"{which} is in use at {settings.shown_url}"


def names_table(records: Sequence[Record]) -> Table:
    """One row for each name."""
    numbers = ("for", "left", "token", "waiters")
    table = output.table("name", "kind", "holder", *numbers, right=numbers)
    for record in records:
        first = record.holders[0] if record.holders else None
        table.add_row(
            Text(visible(record.name), style="bold"),
            record.what,
            _holders(record),
            duration(first.held_for) if first else "",
            _left(first.remaining) if first else "",
            str(first.token) if first else "",
            Text(str(len(record.waiters)), style="yellow") if record.waiters else Text("-", style="dim"),
        )
    return table


def show(on: Console, record: Record) -> None:
    """One name in full."""
    on.print(Text(visible(record.name), style="bold") + Text(f"  {record.what}", style="dim"), soft_wrap=True)
    if not record.used:
        last = f"; the last token was {record.token}" if record.token else ""
        on.print(Text(f"nobody holds it and nobody waits{last}", style="dim"))
        return
    if record.closed_for:
        on.print(Text(f"kept closed for {duration(record.closed_for)} more: its last holder was lost", style="yellow"))
    if record.holders:
        on.print(holders_table(record))
    else:
        on.print(Text("nobody holds it", style="dim"))
    if record.waiters:
        on.print(_waiters_table(record))
    else:
        on.print(Text("nobody waits", style="dim"))


def holders_table(record: Record) -> Table:
    """Who holds a name."""
    table = output.table("holder", "permits", "token", "since", "for", "left", "note", right=("token", "for", "left"))
    for holder in record.holders:
        table.add_row(
            Text(who(holder), style="green"),
            _permits(holder, record.limit),
            str(holder.token),
            _clock(holder.since),
            duration(holder.held_for),
            _left(holder.remaining),
            visible(holder.note or ""),
        )
    return table


def who(person: Holder | Waiter) -> str:
    """A process, for people."""
    if person.host is None and person.pid is None:
        return "unknown"
    return f"{visible(person.host or '?')} pid {person.pid if person.pid is not None else '?'}"


def _waiters_table(record: Record) -> Table:
    table = output.table("", "waiter", "permits", "since", "for", "note", right=("", "for"))
    for place, waiter in enumerate(record.waiters, 1):
        table.add_row(
            str(place),
            Text(who(waiter), style="yellow"),
            _permits(waiter, record.limit),
            _clock(waiter.since),
            duration(waiter.waited_for),
            visible(waiter.note or ""),
        )
    return table


def _holders(record: Record) -> Text:
    if not record.holders:
        return Text(f"closed for {duration(record.closed_for)}" if record.closed_for else "nobody", style="dim")
    first = record.holders[0]
    text = Text(who(first), style="green")
    if first.mode:
        text.append(f" ({first.mode})")
    if len(record.holders) > 1:
        text.append(f" and {len(record.holders) - 1} more")
    if first.note:
        text.append(f"  {visible(first.note)}", style="italic")
    return text


def _permits(person: Holder | Waiter, limit: int | None) -> str:
    return person.mode or f"{person.permits} of {'?' if limit is None else limit}"


def _left(seconds: float) -> Text:
    return Text(duration(seconds), style="red" if seconds < 1 else "")


def _clock(moment: str) -> str:
    """Local time; with the date where it was not today."""
    local = datetime.datetime.fromisoformat(moment).astimezone()
    today = local.date() == datetime.datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")
