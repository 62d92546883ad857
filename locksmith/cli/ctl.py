"""`locksmith ctl`: remote control of `locksmith run`, through the store."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import click
from rich.text import Text

from locksmith.cli import output
from locksmith.cli.output import visible
from locksmith.cli.settings import Settings, common_options
from locksmith.client import Client
from locksmith.runtime import SystemClock
from locksmith.supervise.orders import Board, Orders, Report

VERBS: Final = ("status", "stop", "restart", "pause", "resume", "handover")
_LOOK_EVERY: Final = 1.0
"""Seconds after which to look who holds the name although no report has changed."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is known of a name."""

    holder: int | None
    """The token, where anybody holds it."""
    waiting: int
    report: Report | None
    """Of the holder."""
    version: int


@click.command("ctl")
@click.argument("name")
@click.argument("verb", type=click.Choice(VERBS))
@click.option("--wait", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds until done.")
@common_options
def ctl_command(settings: Settings, name: str, verb: str, wait: float) -> int:
    r"""Tell the machines that `locksmith run NAME` what to do, and wait until it is done.

    \b
    status    what runs where
    stop      all of them end, with status 0
    restart   the command ends and is started again, where it is
    pause     the command ends, and nobody runs it until `resume`
    handover  the command ends, and the next machine in line runs it

    Exit status 1 where that was not done in time, or nobody runs it.
    """
    with settings.connect() as client:
        board = Board(client, name)
        if verb == "status":
            return _status(settings, client, board, name)
        return _order(settings, client, board, name, verb, wait)


def _order(settings: Settings, client: Client, board: Board, name: str, verb: str, wait: float) -> int:
    before = _look(client, board, name)
    if verb in ("restart", "handover") and before.report is None:
        return _say(settings, name, verb, "nobody runs it", done=False)
    orders = board.give(verb, before.holder or 0)
    now = SystemClock().now
    deadline = now() + wait
    while True:
        scene = _look(client, board, name)
        if _done(verb, orders, before, scene):
            return _say(settings, name, verb, "done", done=True)
        if (left := deadline - now()) <= 0:
            return _say(settings, name, verb, f"ordered, but not done within {wait:g} s", done=False)
        board.wait_for_report(scene.version, min(left, _LOOK_EVERY))


def _done(verb: str, orders: Orders, before: _Scene, scene: _Scene) -> bool:
    if verb == "resume":
        return True
    if verb == "restart":
        report = scene.report
        return scene.holder != before.holder or (
            report is not None
            and before.report is not None
            and report.obeyed >= orders.number
            and report.starts > before.report.starts
            and report.phase == "running"
        )
    # A holder that stood in line while this was ordered will see it, too, and go.
    return scene.holder is None if verb in ("stop", "pause") else scene.holder != before.holder


def _look(client: Client, board: Board, name: str) -> _Scene:
    # The report first: one whose token holds the name afterwards was in force when it was read.
    report, version = board.report()
    seen = client.inspect(name)
    holder = seen.holders[0].token if seen.holders else None
    return _Scene(holder, len(seen.waiters), report if report and report.token == holder else None, version)


def _status(settings: Settings, client: Client, board: Board, name: str) -> int:
    scene, orders = _look(client, board, name), board.orders()[0]
    if settings.as_json:
        told: dict[str, Any] = {"name": name, "paused": orders.paused, "token": scene.holder, "waiting": scene.waiting}
        output.say_json({**told, "report": asdict(scene.report) if scene.report else None})
    else:
        output.console().print(Text(f"{visible(name)}: {_sentence(scene, orders)}"), soft_wrap=True)
    return 0 if scene.holder is not None else 1


def _sentence(scene: _Scene, orders: Orders) -> str:
    state = "paused, " if orders.paused else ""
    if scene.holder is None:
        return f"{state}nobody runs it, {scene.waiting} waiting"
    if scene.report is None:
        return f"{state}held with token {scene.holder} by somebody who has not reported, {scene.waiting} waiting"
    report = scene.report
    child = f", process {report.child}" if report.child else ""
    return (
        f"{state}{report.phase} on {visible(report.host)} (supervisor {report.supervisor}{child}), "
        f"token {report.token}, started {report.starts} times, {scene.waiting} waiting"
    )


def _say(settings: Settings, name: str, verb: str, said: str, *, done: bool) -> int:
    if settings.as_json:
        output.say_json({"name": name, "order": verb, "done": done})
    else:
        output.console().print(Text(f"{visible(name)}: {verb}: {said}"), soft_wrap=True)
    return 0 if done else 1
