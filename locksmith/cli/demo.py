"""`locksmith demo`: processes race for jobs, one is killed while it works, and every job is still done exactly once."""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Final

import click
from rich.console import Console
from rich.text import Text

import locksmith
from locksmith.cli import output
from locksmith.cli.demo_board import Board
from locksmith.cli.demo_crew import Crew, News
from locksmith.cli.demo_ledger import COMPLETED, STARTED, Ledger
from locksmith.cli.demo_view import Result, View, verdict
from locksmith.cli.demo_worker import Orders
from locksmith.cli.records import Record, read
from locksmith.cli.settings import Settings, common_options
from locksmith.client import Client
from locksmith.errors import ConfigurationError, StoreError
from locksmith.store import Guarantee

NAMESPACE: Final = "locksmith_demo"
TTL: Final = 2.0
"""Seconds until the job of a killed worker is free: short, because somebody is watching."""
WORK: Final = 0.7
"""Seconds a job takes."""
_PATIENCE: Final = 60.0
"""Seconds without any word from any worker after which the demo gives up."""
_LOOK_EVERY: Final = 0.1


@click.command("demo")
@click.option("--jobs", type=click.IntRange(1, 99), default=10, show_default=True, help="How many jobs there are.")
@click.option("--workers", type=click.IntRange(2, 16), default=4, show_default=True, help="How many processes race.")
@click.option("--seed", type=int, help="Let the workers try the jobs in the order of an earlier run.")
@common_options
def demo_command(settings: Settings, jobs: int, workers: int, seed: int | None) -> int:
    """Several processes race for a list of jobs; one is killed while it works.

    Each worker calls each job under run_once, in an order of its own. Whoever is first in the middle of a job chosen by
    the seed is killed with SIGKILL; when its ttl has ended another takes the job over, with a greater fencing token. At
    the end the jobs' own ledger, which compares tokens, is asked how often each job was completed.

    Exit status 1 where that is not exactly once. Takes about eight seconds.
    """
    chosen = random.randrange(2**31) if seed is None else seed
    _refuse_unshared(settings)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with tempfile.TemporaryDirectory(prefix="locksmith-demo-") as folder:
        race = _Race(settings, jobs, workers, chosen, Path(folder) / "ledger")
        # The last line of stdout is the result; the story is for people, and they may be watching stderr.
        result = race.run(output.console(sys.stderr if settings.as_json else sys.stdout))
    if settings.as_json:
        output.say_json(result.as_json())
    return 0 if result.held else 1


class _Race:
    """One run of the demo."""

    def __init__(self, settings: Settings, jobs: int, workers: int, seed: int, ledger: Path) -> None:
        self._settings = settings
        self._namespace = settings.namespace or NAMESPACE
        # Names that no other run uses, so that nothing was done yet.
        self._run = os.urandom(4).hex()
        self._ledger = Ledger(ledger)
        self._seed = seed
        names = [f"job-{number:02}" for number in range(1, jobs + 1)]
        fatal = random.Random(seed).choice(names)
        self._orders = [
            Orders(settings.url, self._namespace, self._run, worker, names, seed, TTL, WORK, str(ledger), fatal)
            for worker in range(1, workers + 1)
        ]
        began = time.monotonic()
        self._board = Board(names, workers, fatal, lambda: time.monotonic() - began)

    def run(self, console: Console) -> Result:
        """Let them race, and count."""
        _introduce(console, self._settings.shown_url, self._board, self._seed)
        with locksmith.connect(self._settings.url, namespace=self._namespace) as client, Crew(self._orders) as crew:
            pids = {number: worker.pid for number, worker in crew.workers.items()}
            with View(self._board, pids, console) as view:
                self._watch(client, crew, view)
                view.finish()
        if self._board.trouble:
            for line in self._board.trouble:
                console.print(Text(output.visible(line), style="red"), soft_wrap=True)
        result, starts = self._count()
        verdict(console, result, starts)
        return result

    def _watch(self, client: Client, crew: Crew, view: View) -> None:
        heard = time.monotonic()
        while not self._board.over and time.monotonic() - heard < _PATIENCE:
            for news in crew.news(_LOOK_EVERY):
                heard = time.monotonic()
                self._board.hear(news)
                if self._board.should_kill(news):
                    self._kill(crew, news)
            self._board.look(self._records(client))
            view.update()

    def _kill(self, crew: Crew, news: News) -> None:
        """SIGKILL, in the middle of the job for certain: it stands still while the ledger is asked."""
        job = news.facts["job"]
        with crew.paused(news.worker) as worker:
            # A very slow machine may bring its word when the job is done: then this run shows nothing, and says so.
            if self._ledger.count(COMPLETED)[job] == 0:
                worker.signal(signal.SIGKILL)
                self._board.killed(news.worker, job)

    def _records(self, client: Client) -> dict[str, Record]:
        """What the store shows of this run's jobs, by job."""
        try:
            records = [read(client, name) for name in client.names(f"{self._run}:")]
        except StoreError:
            return {}  # the workers will say what is wrong with it
        return {record.name.partition(":")[2]: record for record in records}

    def _count(self) -> tuple[Result, dict[str, int]]:
        completed, started = self._ledger.count(COMPLETED), self._ledger.count(STARTED)
        jobs = list(self._board.jobs)
        often = [completed[job] for job in jobs]
        result = Result(
            store=self._settings.shown_url,
            jobs=len(jobs),
            completed_once=often.count(1),
            completed_twice=sum(count > 1 for count in often),
            lost=often.count(0),
            started=sum(started[job] for job in jobs),
            takeovers=sum(job.taken_over for job in self._board.jobs.values()),
            seconds=round(self._board.seconds(), 2),
        )
        return result, {job: started[job] for job in jobs}


def _refuse_unshared(settings: Settings) -> None:
    """Processes can only share what another machine can reach, or what outlives a process."""
    with settings.connect() as client:
        promised = client.guarantees
        # A store that cannot be reached says so here, once, and not from each worker.
        client.inspect("locksmith demo")
    if not promised & (Guarantee.SHARED | Guarantee.DURABLE):
        raise ConfigurationError(
            f"{settings.shown_url} lives inside one process, and the demo races several: "
            "use a store that processes share, such as sqlite:///file or redis://host"
        )


def _introduce(console: Console, store: str, board: Board, seed: int) -> None:
    console.print(
        Text(
            f"{len(board.doing)} processes race for {len(board.jobs)} jobs on {store} (--seed {seed}). "
            f"One will be killed while it works; its job is free again {TTL:.0f} s later."
        ),
        soft_wrap=not output.can_live(console),
    )


def _leave(number: int, frame: FrameType | None) -> None:
    # As Ctrl-C does: through all the `with`s, which end the workers.
    raise SystemExit(128 + number)
