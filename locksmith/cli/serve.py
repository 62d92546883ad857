"""`locksmith serve`: throwaway servers for somebody's own tests."""

from __future__ import annotations

import importlib
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

import click
from rich.text import Text

from locksmith.cli import output
from locksmith.cli.settings import Settings, common_options

_LOOK_EVERY: Final = 0.5
"""Seconds between two looks whether the servers still live; a signal ends the pause."""


@click.command("serve")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--install", is_flag=True, help="Install the programs that are missing, where that is possible.")
@common_options
def serve_command(settings: Settings, names: tuple[str, ...], install: bool) -> int:
    """Start throwaway servers for tests, print their URLs, and run until Ctrl-C or SIGTERM.

    Each listens on a free port of the loopback interface and keeps its data in a temporary folder, which goes with it.
    Without a NAME: which there are.
    """
    # By name, since `locksmith.testing` stands on this package, and nothing in the library stands on it.
    catalogue = importlib.import_module("locksmith.testing.servers.catalogue")
    if not names:
        _list(catalogue.KINDS, as_json=settings.as_json)
        return 0
    programs = [catalogue.kind(name).program for name in names]
    if install:
        importlib.import_module("locksmith.testing.servers.programs").install(dict.fromkeys(programs))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        # The last thing before the clean-up begins, which a second Ctrl-C is not to cut short.
        try:
            _serve(catalogue, names, stack, as_json=settings.as_json)
        except KeyboardInterrupt:
            pass
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
    return 0


def _serve(catalogue: Any, names: Sequence[str], stack: ExitStack, *, as_json: bool) -> None:
    servers = []
    said = []
    for name in names:
        server = stack.enter_context(catalogue.make(name))
        servers.append(server)
        said.append({"name": name, "url": server.url})
        if not as_json:
            click.echo(server.url)
    if as_json:
        output.say_json(said)
    sys.stdout.flush()
    if sys.stderr.isatty():
        sys.stderr.write("Ctrl-C ends them and removes their data.\n")
    while True:
        time.sleep(_LOOK_EVERY)
        catalogue.check(servers)


def _list(kinds: dict[str, Any], *, as_json: bool) -> None:
    missing = {name: kind.missing() for name, kind in kinds.items()}
    if as_json:
        output.say_json([{"name": name, "what": kind.what, "missing": missing[name]} for name, kind in kinds.items()])
        return
    table = output.table("name", "what", "")
    for name, kind in kinds.items():
        why = missing[name]
        table.add_row(name, kind.what, Text("installed", style="green") if why is None else Text(why, style="dim"))
    output.console().print(table)
