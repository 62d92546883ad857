"""`locksmith watch`: who holds what, as it changes."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from typing import Final

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from locksmith.cli import output
from locksmith.cli.listing import names_table, nothing
from locksmith.cli.records import Record, read_all
from locksmith.cli.settings import Settings, common_options
from locksmith.client import Client
from locksmith.errors import StoreUnavailable

_SHARE: Final = 4
"""Watching takes at most a fourth of its time for asking: a store with many names is asked less often."""


@click.command("watch")
@click.argument("prefix", default="")
@click.option("--interval", type=click.FloatRange(min=0.05), default=0.5, show_default=True, help="Seconds per look.")
@click.option("--once", is_flag=True, help="Look once and end.")
@common_options
def watch_command(settings: Settings, prefix: str, interval: float, once: bool) -> int:
    """Show names in use, holders and lines, live; Ctrl-C ends it.

    Where stdout is not a terminal, or with --json, each change is one line of JSON: the name as it is now, with
    neither holders nor waiters once it was given back.
    """
    on = output.console()
    with settings.connect() as client:
        if settings.as_json or not output.can_live(on):
            _lines(client, prefix, interval, once=once)
        elif once:
            on.print(_screen(settings, prefix, list(read_all(client, prefix)), on))
        else:
            _live(settings, client, prefix, interval, on)
    return 0


def _lines(client: Client, prefix: str, interval: float, *, once: bool) -> None:
    before: dict[str, Record] = {}
    for records in _looks(client, prefix, interval):
        now = {record.name: record for record in records}
        for name, record in now.items():
            if name not in before or before[name].shape != record.shape:
                _say(record)
        for name in before.keys() - now.keys():
            _say(Record(name, None, before[name].token, 0.0))
        before = now
        if once:
            return


def _live(settings: Settings, client: Client, prefix: str, interval: float, on: Console) -> None:
    with Live(console=on, auto_refresh=False, screen=True) as live:
        looks = _looks(client, prefix, interval)
        while True:
            try:
                live.update(_screen(settings, prefix, next(looks), on), refresh=True)
            except StoreUnavailable as error:
                # A server that restarts is worth watching, too.
                live.update(_title(settings, str(error), style="red"), refresh=True)
                time.sleep(max(interval, 0.5))
                looks = _looks(client, prefix, interval)


def _looks(client: Client, prefix: str, interval: float) -> Iterator[list[Record]]:
    while True:
        began = time.monotonic()
        yield list(read_all(client, prefix))
        took = time.monotonic() - began
        time.sleep(max(interval - took, took * (_SHARE - 1), 0.0))


def _screen(settings: Settings, prefix: str, records: list[Record], on: Console) -> Group:
    which = f" that begin with {output.visible(prefix)}" if prefix else ""
    title = _title(settings, f"{len(records)} in use{which}")
    if not records:
        return Group(title, Text(nothing(settings, prefix), style="dim"))
    # Title, table head, its rule and the line about the rest.
    room = max(1, on.height - 5)
    shown = names_table(records[:room])
    rest = Text(f"and {len(records) - room} more", style="dim") if len(records) > room else Text()
    return Group(title, shown, rest)


def _title(settings: Settings, said: str, style: str = "dim") -> Text:
    clock = datetime.datetime.now().astimezone().strftime("%H:%M:%S")
    return Text.assemble((settings.shown_url, "bold"), (f"  {clock}  ", "dim"), (said, style))


def _say(record: Record) -> None:
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    output.say_json({"at": at, **record.as_json()})
