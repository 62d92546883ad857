"""`locksmith doctor`: does this store keep the promises it declares?"""

from __future__ import annotations

import time
from typing import Final

import click
from rich.console import Console
from rich.text import Text

from locksmith.cli import output
from locksmith.cli.settings import Settings, common_options
from locksmith.client import Client
from locksmith.errors import StoreAuthError, StoreProtocolError
from locksmith.store import Finding, Guarantee

_MEANINGS: Final = {
    Guarantee.FENCED: "tokens of a name grow with its grants",
    Guarantee.FIFO: "granted in the order of arrival",
    Guarantee.PUSH: "waiters are told, they do not poll",
    Guarantee.CLOCK: "has a clock that can be read",
    Guarantee.EXACT_TTL: "a ttl ends when it says",
    Guarantee.LOCK_DELAY: "a name can stay closed after a loss",
    Guarantee.DURABLE: "grants survive a restart of the server",
    Guarantee.SURVIVES_FAILOVER: "a grant survives the loss of the leader",
    Guarantee.SHARED: "several machines can use it",
    Guarantee.CELLS: "keeps small shared values",
}
_STYLES: Final = {"ok": "green", "warning": "yellow", "error": "bold red"}
_PROBE: Final = "locksmith doctor"
"""The name the doctor takes for a moment: always the same one, so that nothing piles up on the store."""


@click.command("doctor")
@common_options
def doctor_command(settings: Settings) -> int:
    """Probe the store for what breaks promises, and say what to do about it.

    Takes and gives back one lock, asks the server about its settings, and lists what the store promises.
    Exit status 1 where it finds an error; a warning is none.
    """
    with settings.connect() as client:
        findings = [_try(client), *client.diagnose()]
        promised = client.guarantees
    healthy = not any(finding.level == "error" for finding in findings)
    if settings.as_json:
        output.say_json(
            {
                "store": settings.shown_url,
                "healthy": healthy,
                "findings": [{"level": f.level, "what": f.what, "advice": f.advice} for f in findings],
                "guarantees": {str(flag.name).lower(): flag in promised for flag in Guarantee},
            }
        )
    else:
        _show(output.console(), settings.shown_url, findings, promised)
    return 0 if healthy else 1


def _try(client: Client) -> Finding:
    """One lock, taken and given back. A server that is not there is no finding: that is raised."""
    began = time.perf_counter()
    try:
        lease = client.lock(_PROBE, ttl=10).try_acquire(note="locksmith doctor")
        if lease is not None:
            lease.release()
    except (StoreAuthError, StoreProtocolError) as error:
        return Finding("error", f"a lock cannot be taken: {error}", "see the store's page for the permissions it needs")
    took = (time.perf_counter() - began) * 1000
    if lease is None:
        return Finding("ok", f"answered in {took:.1f} ms (another doctor is at it: no lock taken)")
    return Finding("ok", f"took and gave back a lock in {took:.1f} ms, connecting included")


def _show(on: Console, url: str, findings: list[Finding], promised: Guarantee) -> None:
    on.print(Text(url, style="bold"), soft_wrap=True)
    for finding in findings:
        on.print(
            Text.assemble((f"{finding.level:>8}  ", _STYLES.get(finding.level, "")), output.visible(finding.what)),
            soft_wrap=True,
        )
        if finding.advice:
            on.print(Text(f"          {output.visible(finding.advice)}", style="dim"), soft_wrap=True)
    table = output.table("promise", "", "meaning")
    for flag, meaning in _MEANINGS.items():
        kept = flag in promised
        table.add_row(
            Text(str(flag.name).lower(), style="" if kept else "dim"),
            Text("yes", style="green") if kept else Text("no", style="dim"),
            Text(meaning, style="" if kept else "dim"),
        )
    on.print(table)
