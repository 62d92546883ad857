"""`locksmith break`: take a name from its holder."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.text import Text

from locksmith.cli import output
from locksmith.cli.listing import holders_table, who
from locksmith.cli.output import duration, visible
from locksmith.cli.records import Holder, Record, read
from locksmith.cli.settings import Settings, common_options
from locksmith.client import Client
from locksmith.errors import ConfigurationError


@click.command("break")
@click.argument("name")
@click.option("--token", type=int, help="Only the holder with this token, where NAME has several.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common_options
def break_command(settings: Settings, name: str, token: int | None, yes: bool) -> int:
    """Take NAME from who holds it, as if its ttl had ended. Asks first, for each holder.

    The holder is not stopped: it learns of its loss with its next beat, at the latest when its ttl ends. Until then it
    may go on working, beside the next holder; a resource that compares fencing tokens refuses it.

    Exit status 1 where nothing was broken.
    """
    with settings.connect() as client:
        record = read(client, name)
        holders = [holder for holder in record.holders if token in (None, holder.token)]
        if not holders:
            return _nobody(settings, record, token)
        if not yes and not sys.stdin.isatty():
            raise ConfigurationError("there is no terminal to ask on: say --yes to break without being asked")
        # The question goes to stderr, so that stdout stays JSON where that was asked for.
        if not yes:
            _present(output.console(sys.stderr), record)
        outcome = {holder.token: _break(client, name, holder, yes=yes) for holder in holders}
    return _report(settings, record, holders, outcome)


def _break(client: Client, name: str, holder: Holder, *, yes: bool) -> str:
    question = f"Take {visible(name)} from {who(holder)} (token {holder.token}, for {duration(holder.held_for)})?"
    if not yes and not click.confirm(question, err=True):
        return "kept"
    return "broken" if client.evict(name, holder.token) else "gone"


def _present(on: Console, record: Record) -> None:
    on.print(Text(visible(record.name), style="bold"), soft_wrap=True)
    on.print(holders_table(record))


def _nobody(settings: Settings, record: Record, token: int | None) -> int:
    if settings.as_json:
        output.say_json(_answer(record.name, {}))
    else:
        holds = "nobody holds" if token is None else f"nobody with token {token} holds"
        output.console().print(Text(f"{holds} {visible(record.name)}"), soft_wrap=True)
    return 1


def _report(settings: Settings, record: Record, holders: list[Holder], outcome: dict[int, str]) -> int:
    broken = "broken" in outcome.values()
    if settings.as_json:
        output.say_json(_answer(record.name, outcome))
        return 0 if broken else 1
    on = output.console()
    said = {
        "broken": "taken from {} (token {}), which learns of it with its next beat, or {} from now at the latest",
        "gone": "{} (token {}) had given it back already",
        "kept": "left to {} (token {})",
    }
    for holder in holders:
        sentence = said[outcome[holder.token]].format(who(holder), holder.token, duration(holder.remaining))
        on.print(Text(f"{visible(record.name)}: {sentence}"), soft_wrap=True)
    return 0 if broken else 1


def _answer(name: str, outcome: dict[int, str]) -> dict[str, object]:
    """For `--json`: the tokens that were broken, those found gone, and those left alone."""
    by = {word: [token for token, became in outcome.items() if became == word] for word in ("broken", "gone", "kept")}
    return {"name": name, **by}
