"""How the demo looks: a live table on a terminal, a few lines elsewhere, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from locksmith.cli import output
from locksmith.cli.demo_board import Board, Job
from locksmith.cli.demo_worker import STEPS

_STORY: Final = 6
"""Lines of the story under the live table."""
_STATES: Final = {"open": "dim", "running": "yellow", "orphaned": "bold red", "done": "green"}
_WORDS: Final = {"open": "-", "orphaned": "orphaned", "done": "done"}
_WIDTHS: Final = {"state": 11, "holder (pid)": 12, "token": 16, "take-over": 9}
"""So that the live table does not jump; all in 80 columns."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo has shown. The names are those of `--json`."""

    store: str
    jobs: int
    completed_once: int
    completed_twice: int
    lost: int
    started: int
    takeovers: int
    seconds: float

    @property
    def held(self) -> bool:
        """Whether the promise held, and was put to the test."""
        return self.completed_once == self.jobs and self.takeovers > 0

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


class View:
    """Shows a board while it changes."""

    def __init__(self, board: Board, pids: Mapping[int, int], console: Console) -> None:
        self._board = board
        self._pids = pids
        self._console = console
        self._told = 0
        self._live: Live | None = None
        if output.can_live(console):
            self._live = Live(console=console, auto_refresh=False, vertical_overflow="ellipsis")

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live:
            self._live.stop()

    def update(self) -> None:
        """Show what the board says now."""
        if self._live is not None:
            self._live.update(self._screen(), refresh=True)
            return
        for line in self._board.log[self._told :]:
            self._console.print(Text(line), soft_wrap=True)
        self._told = len(self._board.log)

    def finish(self) -> None:
        """The last picture: without a terminal, the only one."""
        if self._live is None:
            self._console.print(self._table())
            self._console.print()

    def _screen(self) -> RenderableType:
        story = Text("\n".join(self._board.log[-_STORY:]), style="dim", overflow="ellipsis", no_wrap=True)
        return Group(self._table(), story, Text())

    def _table(self) -> Table:
        columns = ("job", "state", "holder (pid)", "token", "waiters", "starts", "take-over")
        table = output.table(*columns, right=("waiters", "starts"), widths=_WIDTHS)
        for job in self._board.jobs.values():
            table.add_row(
                job.name,
                _state(job),
                self._worker(job),
                str(job.token or "-"),
                Text(str(job.waiters), style="bold") if job.waiters else Text("-", style="dim"),
                str(len(job.starts) or "-"),
                _takeover(job),
            )
        return table

    def _worker(self, job: Job) -> Text:
        if job.worker is None:
            return Text("-", style="dim")
        # Nobody holds what is done: the worker that did it, in the background.
        return Text(f"{job.worker} ({self._pids[job.worker]})", style="dim" if job.state == "done" else "")


def verdict(console: Console, result: Result, starts: Mapping[str, int]) -> None:
    """What it all comes down to, in two or three sentences."""
    again = [f"{job} {'twice' if count == 2 else f'{count} times'}" for job, count in starts.items() if count > 1]
    said = (
        f"{result.completed_once} of {result.jobs} jobs were completed exactly once, "
        f"{result.completed_twice} more than once, {result.lost} never. "
        f"There were {result.started} starts{': ' + ', '.join(again) + ', all others once' if again else ''}."
    )
    word = ("held  ", "bold green") if result.held else ("BROKEN  ", "bold red")
    console.print(Text.assemble(word, said))
    if not result.takeovers:
        console.print(Text("No killed worker's job was taken over, so this run shows nothing.", style="red"))
    console.print(Text(f"{result.seconds:.1f} s on {result.store}", style="dim"), soft_wrap=True)


def _state(job: Job) -> Text:
    if job.state == "running":
        return Text(f"running {job.step}/{STEPS}", style="yellow")
    return Text(_WORDS[job.state], style=_STATES[job.state])


def _takeover(job: Job) -> Text:
    if job.killed is None:
        return Text("")
    if not job.taken_over:
        return Text(f"{job.killed} -> ?", style="red")
    return Text(f"{job.killed} -> {job.starts[-1][0]}", style="bold green")
