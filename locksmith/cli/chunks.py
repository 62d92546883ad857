"""`locksmith chunks`: how far chunked jobs are, and steering them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.text import Text

from locksmith.chunks import Job, Progress, jobs
from locksmith.cli import output
from locksmith.cli.output import duration, visible
from locksmith.cli.settings import Settings, common_options

_BAR: Final = 24
"""Columns of a progress bar."""


@click.group("chunks")
def chunks_command() -> None:
    """Chunked jobs: how far they are, and when they end.

    NAME is what `locksmith chunks ls` shows, and what `function.key(arguments)` returns.
    """


@chunks_command.command("ls")
@click.argument("prefix", default="")
@common_options
def _list(settings: Settings, prefix: str) -> None:
    """List the chunked jobs whose names begin with PREFIX."""
    with settings.connect() as client:
        found = jobs(client, prefix)
    if settings.as_json:
        output.say_json([_plain(each) for each in found.values()])
        return
    on = output.console()
    if not found:
        on.print("no chunked jobs")
        return
    table = output.table("job", "state", "done", "chunks", "left", right=["done", "chunks", "left"])
    bars = output.can_live(on)
    if bars:
        table.add_column("")
    for name, each in found.items():
        row: list[Any] = [visible(name), _state(each), _percent(each), str(each.done), _left(each)]
        table.add_row(*row, *([_bar(each)] if bars else []))
    on.print(table)


@chunks_command.command("show")
@click.argument("name")
@common_options
def _show(settings: Settings, name: str) -> int:
    """Show how far the job NAME is. Exit status 1 where there is none."""
    with settings.connect() as client:
        found = Job(client, name).progress()
    return _tell(settings, name, found)


def _steering(word: str, act: Callable[[Job], Progress | None], told: str) -> None:
    @chunks_command.command(word, help=f"{told} Exit status 1 where there is no job NAME, or it is over already.")
    @click.argument("name")
    @common_options
    def steer(settings: Settings, name: str) -> int:
        with settings.connect() as client:
            job = Job(client, name)
            before = job.progress()
            over = before is None or before.state in ("done", "cancelled")
            found = before if over else act(job)
        return _tell(settings, name, found) or int(over)


_steering("pause", Job.pause, "Have no chunk of the job NAME begun until it is resumed; those in work are finished.")
_steering("resume", Job.resume, "Let the job NAME go on, after a pause or after a chunk failed too often.")
_steering("cancel", Job.cancel, "End the job NAME for good; chunks in work are finished.")


@chunks_command.command("forget")
@click.argument("name")
@common_options
def _forget(settings: Settings, name: str) -> int:
    """Delete what is known of the job NAME, which is done or cancelled: it can then begin anew.

    Exit status 1 where there is none.
    """
    with settings.connect() as client:
        found = Job(client, name).forget()
    if settings.as_json:
        output.say_json({"name": name, "forgotten": found})
    else:
        output.console().print(Text(f"{visible(name)}: {'forgotten' if found else 'there is no such job'}"))
    return 0 if found else 1


def _tell(settings: Settings, name: str, found: Progress | None) -> int:
    if settings.as_json:
        output.say_json(None if found is None else _plain(found))
        return 0 if found else 1
    on = output.console()
    if found is None:
        on.print(Text(f"there is no chunked job {visible(name)}"), soft_wrap=True)
        return 1
    _describe(on, found)
    return 0


def _describe(on: Console, found: Progress) -> None:
    on.print(Text(f"{visible(found.name)}: {_state(found)}", style="bold"), soft_wrap=True)
    if found.error:
        on.print(Text(f"  {visible(found.error)}"), soft_wrap=True)
    if output.can_live(on) and found.fraction is not None:
        on.print(_bar(found))
    much = f" of {found.total:.0f}" if found.total else ""
    on.print(f"  {_percent(found)} done: {found.finished:.0f}{much}, in {found.done} chunks; {found.running} in work")
    on.print(f"  began {duration(time.time() - found.began)} ago")
    if found.ended is not None:
        on.print(f"  ended {duration(max(0.0, time.time() - found.ended))} ago")
    elif found.left is not None:
        on.print(f"  ends in {duration(found.left)}, at {_at(found.left)}, at the pace of late")


def _plain(found: Progress) -> dict[str, Any]:
    told = {name: value for name, value in asdict(found).items() if name != "here"}
    return told | {"ends": None if found.left is None or found.ended else time.time() + found.left}


def _state(found: Progress) -> str:
    return f"{found.state} ({found.running} in work)" if found.state != "running" and found.running else found.state


def _percent(found: Progress) -> str:
    return "?" if found.fraction is None else f"{100 * found.fraction:.1f} %"


def _left(found: Progress) -> str:
    return "" if found.left is None or found.ended else duration(found.left)


def _at(left: float) -> str:
    return datetime.fromtimestamp(time.time() + left).astimezone().strftime("%Y-%m-%d %H:%M")


def _bar(found: Progress) -> ProgressBar | str:
    return "" if found.fraction is None else ProgressBar(total=1.0, completed=found.fraction, width=_BAR)
