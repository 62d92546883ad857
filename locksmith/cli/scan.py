"""`locksmith scan`: a scanner of Celery work, elected, as a process of its own."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import click

from locksmith.cli import INTERRUPTED, output
from locksmith.cli.settings import Settings, common_options
from locksmith.errors import ConfigurationError, LocksmithError

if TYPE_CHECKING:
    from locksmith.celery.scanning import Scanner

_COULD_NOT: Final = 2
GRACE: Final = 3.0
"""Seconds for which a walk is waited for when this process is told to end; then it resigns all the same."""


@click.command("scan")
@click.argument("scanner", metavar="MODULE:FUNCTION")
@click.option("--once", is_flag=True, help="Walk once: exit status 1 where another process does, 2 if it failed.")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what happens.")
@common_options
def scan_command(settings: Settings, scanner: str, once: bool, verbose: bool) -> int:
    """Walk over the work that FUNCTION of MODULE yields, while this process is elected; the others stand by.

    FUNCTION is decorated by locksmith.celery.scan. The store is that of its Celery application, else --store.
    SIGTERM resigns at once, and another process goes on.
    """
    if settings.namespace is not None:
        raise ConfigurationError("the namespace of a scanner is that of its Celery application: leave --namespace out")
    if settings.store is not None:
        os.environ["LOCKSMITH_URL"] = settings.store  # where the application's configuration says nothing
    output.log("locksmith.celery", logging.INFO if verbose else logging.WARNING)
    found = _find(scanner)
    return _walk_once(found, as_json=settings.as_json) if once else _run(found)


def _walk_once(scanner: Scanner, *, as_json: bool) -> int:
    try:
        walk = scanner.walk()
    except LocksmithError:
        raise
    except Exception:
        # What the function or the broker raises; by Python's own status it would look like another one's walk.
        logging.getLogger("locksmith.celery").exception("%s could not walk to the end", scanner.name)
        return _COULD_NOT
    if walk is None:
        return 1  # and no word: cron would mail it
    if as_json:
        output.say_json(asdict(walk))
    else:
        click.echo(f"{walk.found} found, {walk.enqueued} enqueued")
    return 0


def _find(text: str) -> Scanner:
    from locksmith.celery.scanning import Scanner  # it needs Celery, and says so where that is missing

    module, _, path = text.partition(":")
    if not module or not path:
        raise ConfigurationError(f"a scanner is given as module:function, not {text!r}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # as `celery -A` does
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module and not module.startswith(f"{error.name}."):
            raise
        raise ConfigurationError(f"there is no module {module} here: {error}") from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Scanner):
        raise ConfigurationError(f"{text} is no scanner: decorate the function with @locksmith.celery.scan(every=10)")
    return found


def _run(scanner: Scanner) -> int:
    """In a thread, so that a walk that waits for a database cannot keep this process from resigning."""
    told: SimpleQueue[object] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.put(number))

    def run() -> None:
        try:
            scanner.run()
            told.put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the command runs
            told.put(error)

    threading.Thread(target=run, name="locksmith-scan", daemon=True).start()
    ended = told.get()
    if isinstance(ended, int):
        order = ended
        scanner.stop()
        try:
            ended = told.get(timeout=GRACE)
        except Empty:
            ended = None
            scanner.client().close()
        _raise(ended)
        return INTERRUPTED if order == signal.SIGINT else 0
    _raise(ended)
    return 0


def _raise(ended: object) -> None:
    if isinstance(ended, BaseException):
        raise ended
