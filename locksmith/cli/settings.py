"""Which store a command speaks to, and how it answers: the options that every command has."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

import locksmith
from locksmith import redact
from locksmith.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

NAMESPACE: Final = "locksmith"
"""Also the default of `locksmith.connect`."""
ENVIRONMENT: Final = "LOCKSMITH_URL"


@dataclass(frozen=True, slots=True)
class Outer:
    """Options given before the command's name: `locksmith --json ls`."""

    store: str | None
    namespace: str | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """What one command was asked to work on."""

    store: str | None
    """The URL that was asked for, by option or environment; None: the embedded store."""
    namespace: str | None
    as_json: bool

    @property
    def url(self) -> str:
        """The store's URL; makes the embedded store's directory where that is meant."""
        return self.store or embedded_url()

    @property
    def shown_url(self) -> str:
        """The store's URL for people: no secrets."""
        return redact.url(self.url)

    def connect(self, **options: Any) -> locksmith.Client:
        """A client of the store. Raises ConfigurationError; nothing is sent yet."""
        return locksmith.connect(self.url, namespace=self.namespace or NAMESPACE, **options)


def _options(command: F) -> F:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
        click.option("--namespace", metavar="WORD", help=f"Look at the names of this namespace ({NAMESPACE})."),
        click.option("--store", metavar="URL", help=f"The store; default ${ENVIRONMENT}, else your own SQLite file."),
    ):
        command = option(command)
    return command


def outer_options(group: Callable[..., Any]) -> Callable[..., Any]:
    """The common options for the group itself; they reach the command through click's context."""

    @functools.wraps(group)
    def wrapper(store: str | None, namespace: str | None, as_json: bool) -> Any:
        ctx = click.get_current_context()
        ctx.obj = Outer(store, namespace, as_json)
        return group(ctx)

    return _options(wrapper)


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The common options for a command, which gets them as its first argument, `settings`."""

    @functools.wraps(command)
    def wrapper(store: str | None, namespace: str | None, as_json: bool, **rest: Any) -> Any:
        outer = click.get_current_context().find_object(Outer) or Outer(None, None, as_json=False)
        chosen = store or outer.store or os.environ.get(ENVIRONMENT) or None
        return command(Settings(chosen, namespace or outer.namespace, as_json or outer.as_json), **rest)

    return _options(wrapper)


def embedded_url() -> str:
    """The URL of this user's own SQLite file; its directory is made, closed to others, where it is missing."""
    folder = state_directory()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make {folder}: {error.strerror}; set ${ENVIRONMENT} or --store") from error
    return f"sqlite:///{(folder / 'locksmith.db').as_posix()}"


def state_directory() -> Path:
    """Where programs keep what they know between runs, on this system."""
    # The specification of base directories: relative paths are invalid and to be ignored.
    if (stated := os.environ.get("XDG_STATE_HOME")) and Path(stated).is_absolute():
        return Path(stated) / "locksmith"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "locksmith"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ConfigurationError(f"this user has no home directory: set ${ENVIRONMENT}, or give --store") from error
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "locksmith"
    return home / ".local" / "state" / "locksmith"
