"""The group of commands, each loaded when it is called, and what becomes of everything they raise."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import click

from locksmith.cli import INTERRUPTED, output
from locksmith.cli.settings import outer_options
from locksmith.errors import LocksmithError

COULD_NOT: Final = 2
BROKEN_PIPE: Final = 141
"""128 + SIGPIPE: what a shell reports of a program whose reader went away."""

# In the order in which one needs them.
_HOMES: Final = {
    "demo": "locksmith.cli.demo",
    "ls": "locksmith.cli.listing",
    "show": "locksmith.cli.listing",
    "watch": "locksmith.cli.watch",
    "break": "locksmith.cli.breaking",
    "run": "locksmith.cli.run",
    "ctl": "locksmith.cli.ctl",
    "celery": "locksmith.cli.celery",
    "beat": "locksmith.cli.beat",
    "scan": "locksmith.cli.scan",
    "chunks": "locksmith.cli.chunks",
    "doctor": "locksmith.cli.doctor",
    "stores": "locksmith.cli.stores",
    "init": "locksmith.cli.init",
    "bench": "locksmith.cli.bench",
    "serve": "locksmith.cli.serve",
    "version": "locksmith.cli.version",
}


class _Commands(click.Group):
    """Commands that are imported when they are named: `locksmith ls` does not pay for the demo."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_HOMES)

    def invoke(self, ctx: click.Context) -> Any:
        # Here and not in `run`: click has ideas of its own about both, a status of 1 and an empty line.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if sys.stderr.isatty():
                sys.stderr.write("\n")  # after the ^C
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _hush()
            ctx.exit(BROKEN_PIPE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = _HOMES.get(cmd_name)
        if home is None:
            return None
        command = getattr(importlib.import_module(home), f"{cmd_name}_command")
        assert isinstance(command, click.Command)  # noqa: S101 - for the type checker
        return command


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="The store is --store URL, else $LOCKSMITH_URL, else a SQLite file of your own in your state directory. "
    "Exit status: 0 yes or done, 1 no (not found, a check failed), 2 could not.",
)
@outer_options
def _locksmith(ctx: click.Context) -> None:
    """Locks, leases and run-once over Redis, SQL databases and other stores, chosen by URL."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(args: Sequence[str] | None = None) -> int:
    """Run one command. Whatever goes wrong on purpose is one line on stderr and an exit status."""
    words = list(sys.argv[1:] if args is None else args)
    as_json = "--json" in (words[: words.index("--")] if "--" in words else words)
    _never_fail_to_encode()
    # What the library logs is for programs that set logging up; here it would stand between the lines of a table.
    logging.getLogger("locksmith").addHandler(logging.NullHandler())
    try:
        status = _locksmith.main(words, prog_name="locksmith", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except LocksmithError as error:
        output.failure(type(error).__name__, str(error), as_json=as_json)
        return COULD_NOT
    except click.ClickException as error:
        if as_json:
            output.failure(type(error).__name__, error.format_message(), as_json=True)
        else:
            error.show()
        return COULD_NOT
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        # What was printed last went into a buffer, and the reader is gone only now.
        _hush()
        return BROKEN_PIPE


def _never_fail_to_encode() -> None:
    # A terminal that cannot show a character shows its escape; the command must not die of somebody's note.
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _hush() -> None:
    # The interpreter flushes stdout once more on its way out and would complain.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
