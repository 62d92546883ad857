"""`locksmith stores`: which stores there are, and what they promise."""

from __future__ import annotations

from dataclasses import dataclass

import click
from rich.text import Text

import locksmith
from locksmith import redact, registry
from locksmith.cli import output
from locksmith.cli.settings import Settings, common_options
from locksmith.store import Guarantee


@dataclass(frozen=True, slots=True)
class _Row:
    store: str
    promised: Guarantee
    missing: str | None = None


@click.command("stores")
@click.argument("urls", metavar="[URL]...", nargs=-1)
@common_options
def stores_command(settings: Settings, urls: tuple[str, ...]) -> int:
    """List the stores that are installed and what they promise, or what the stores at these URLs do.

    Nothing is sent: what is listed is what `locksmith.connect(url, require=...)` goes by.
    """
    rows = [_of_url(url) for url in urls] or [_of_scheme(known) for known in registry.known()]
    if settings.as_json:
        output.say_json([{"store": r.store, "guarantees": _words(r.promised), "missing": r.missing} for r in rows])
        return 0
    table = output.table("store", "promises")
    for row in rows:
        said = Text(row.missing, style="dim") if row.missing else Text(" ".join(_words(row.promised)))
        table.add_row(row.store, said)
    output.console().print(table)
    return 0


def _of_scheme(known: registry.Known) -> _Row:
    if known.store is None:
        return _Row(f"{known.scheme}://", Guarantee.NONE, f"pip install '{known.extra}'")
    return _Row(f"{known.scheme}://", known.store.guarantees)


def _of_url(url: str) -> _Row:
    with locksmith.connect(url) as client:
        return _Row(redact.url(url), client.guarantees)


def _words(flags: Guarantee) -> list[str]:
    return [str(flag.name).lower() for flag in flags]
