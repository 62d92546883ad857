"""`locksmith init`: create what the store needs, or print the statements that would."""

from __future__ import annotations

from dataclasses import replace

import click

from locksmith import registry
from locksmith.cli import output
from locksmith.cli.settings import NAMESPACE, Settings, common_options
from locksmith.runtime import Blocking, drive
from locksmith.store import Store


@click.command("init")
@click.argument("url", required=False)
@click.option(
    "--sql", "only_show", is_flag=True, help="Print the statements, for the server's own client; run nothing."
)
@common_options
def init_command(settings: Settings, url: str | None, only_show: bool) -> int:
    """Create what the store at URL (or --store) needs: tables and functions, in SQL databases.

    A client does the same with its first request, where its user may. Whatever is there already stays as it is.
    """
    settings = replace(settings, store=url or settings.store)
    store = registry.open_store(settings.url, runtime=Blocking(), namespace=settings.namespace or NAMESPACE)
    try:
        if not only_show:
            drive(store.create())
        _say(settings, store, only_show)
    finally:
        drive(store.close())
    return 0


def _say(settings: Settings, store: Store, only_show: bool) -> None:
    statements = store.ddl()
    if settings.as_json:
        created = bool(statements) and not only_show
        output.say_json({"store": settings.shown_url, "created": created, "sql": statements})
    elif not statements:
        click.echo(f"{'-- ' if only_show else ''}{settings.shown_url} needs nothing")
    elif only_show:
        click.echo(store.script().rstrip())
    else:
        click.echo(f"{settings.shown_url} has what locksmith needs (namespace {settings.namespace or NAMESPACE})")
