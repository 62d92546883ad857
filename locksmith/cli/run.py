"""`locksmith run`: a command on one machine of many."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import Final

import click

from locksmith.cli import output
from locksmith.cli.settings import Settings, common_options
from locksmith.supervise import single_beat
from locksmith.supervise.plan import Restart
from locksmith.supervise.supervisor import Supervisor, Wanted

TTL: Final = 10.0
GRACE: Final = 10.0
_SECONDS: Final = click.FloatRange(min=0, min_open=True)


@click.command("run", context_settings={"ignore_unknown_options": False})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--ttl", type=_SECONDS, help=f"Seconds until another machine takes over a silent one ({TTL:g}).")
@click.option("--grace", type=_SECONDS, default=GRACE, show_default=True, help="Seconds from SIGTERM to SIGKILL.")
@click.option(
    "--restart",
    type=click.Choice([choice.value for choice in Restart]),
    default=Restart.NEVER.value,
    show_default=True,
    help="Start the command again, here, when it ended by itself.",
)
@click.option("--once", is_flag=True, help="Try once: exit status 75 where somebody else has NAME.")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what happens.")
@common_options
def run_command(
    settings: Settings,
    name: str,
    command: tuple[str, ...],
    ttl: float | None,
    grace: float,
    restart: str,
    once: bool,
    verbose: bool,
) -> int:
    """Run COMMAND while this machine holds NAME; the others that run the same stand by.

    Write `--` before COMMAND: locksmith run beat --ttl 10 -- celery -A proj beat

    COMMAND ends before the lease does, whatever happens to this process, the network or the store. Its exit status is
    ours (128 + n where signal n ended it). LOCKSMITH_TOKEN and LOCKSMITH_NAME are in its environment.
    """
    if settings.store is None and (url := single_beat.url(os.environ)):
        settings = dataclasses.replace(settings, store=url)
    output.log("locksmith.supervise", logging.INFO if verbose else logging.WARNING)
    seconds = ttl or single_beat.ttl(os.environ) or TTL
    wanted = Wanted(name, command, seconds, grace, Restart(restart), once)
    return Supervisor(wanted, settings.connect).run()
