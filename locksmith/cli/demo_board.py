"""What the demo knows at a moment, from what workers say and what the store shows. No processes, no terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from locksmith.cli.demo_crew import News
from locksmith.cli.demo_worker import FATAL_STEP
from locksmith.cli.records import Record


@dataclass(slots=True)
class Job:
    """One job, as far as is known."""

    name: str
    state: str = "open"
    """open, running, orphaned (its worker was killed) or done."""
    worker: int | None = None
    token: int | None = None
    step: int = 0
    starts: list[tuple[int, int]] = field(default_factory=list)
    """Worker and token of each start."""
    asked_by: set[int] = field(default_factory=set)
    waiters: int = 0
    """As the store shows it."""
    killed: int | None = None
    """The worker that was killed while it did this."""

    @property
    def taken_over(self) -> bool:
        """Whether somebody started it after its worker was killed."""
        return self.killed is not None and len(self.starts) > 1


class Board:
    """All jobs and all workers. `seconds` tells how long the demo has been running."""

    def __init__(self, jobs: Sequence[str], workers: int, fatal: str, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.fatal = fatal
        self.jobs = {name: Job(name) for name in jobs}
        self.doing: dict[int, str] = dict.fromkeys(range(1, workers + 1), "starting")
        self.victim: int | None = None
        self.log: list[str] = []
        self.trouble: list[str] = []
        self._living = set(self.doing)

    @property
    def over(self) -> bool:
        """Whether no worker lives any more."""
        return not self._living

    def hear(self, news: News) -> None:
        """Take in what a worker said."""
        getattr(self, f"_on_{news.event}", self._on_nothing)(news)

    def look(self, records: Mapping[str, Record]) -> None:
        """Take in what the store shows of the jobs that are in use."""
        for name, job in self.jobs.items():
            record = records.get(name)
            job.waiters = len(record.waiters) if record else 0

    def should_kill(self, news: News) -> bool:
        """Whether this is the moment: a worker is in the middle of the job that was chosen for it."""
        if self.victim is not None or news.event != "step":
            return False
        return bool(news.facts["job"] == self.fatal and news.facts["step"] == FATAL_STEP - 1)

    def killed(self, worker: int, job: str) -> None:
        """This worker was killed while it did that job."""
        self.victim = worker
        self.jobs[job].state = "orphaned"
        self.jobs[job].killed = worker
        self.say(f"worker {worker} was killed with SIGKILL in the middle of {job}")

    def say(self, line: str) -> None:
        """Add a line to the story."""
        self.log.append(f"{self.seconds():5.1f} s  {line}")

    # What workers say.

    def _on_nothing(self, news: News) -> None: ...

    def _on_ready(self, news: News) -> None:
        self.doing[news.worker] = "ready"

    def _on_asks(self, news: News) -> None:
        job = self.jobs[news.facts["job"]]
        job.asked_by.add(news.worker)
        self.doing[news.worker] = f"asks for {job.name}" if job.state != "running" else f"waits for {job.name}"

    def _on_started(self, news: News) -> None:
        job = self.jobs[news.facts["job"]]
        job.state, job.worker, job.token, job.step = "running", news.worker, news.facts["token"], 0
        job.starts.append((news.worker, news.facts["token"]))
        self.doing[news.worker] = f"does {job.name}"
        if job.taken_over:
            self.say(f"worker {news.worker} took {job.name} over, with a greater token: {job.token}")

    def _on_step(self, news: News) -> None:
        self.jobs[news.facts["job"]].step = news.facts["step"]

    def _on_completed(self, news: News) -> None:
        job = self.jobs[news.facts["job"]]
        job.state = "done"
        self.say(f"worker {news.worker} completed {job.name}")

    def _on_knows(self, news: News) -> None:
        self.jobs[news.facts["job"]].asked_by.discard(news.worker)

    def _on_lost(self, news: News) -> None:
        self.say(f"worker {news.worker} lost {news.facts['job']} and stopped: {news.facts['why']}")

    def _on_trouble(self, news: News) -> None:
        self.say(f"worker {news.worker} did not reach the store, tries again: {news.facts['why']}")

    def _on_failed(self, news: News) -> None:
        self.trouble.append(f"worker {news.worker}: {news.facts['why']}")

    def _on_through(self, news: News) -> None:
        self.doing[news.worker] = "through"

    def _on_ended(self, news: News) -> None:
        self._living.discard(news.worker)
        for job in self.jobs.values():
            job.asked_by.discard(news.worker)
        if news.worker == self.victim:
            self.doing[news.worker] = "killed"
        elif self.doing[news.worker] != "through":
            self.doing[news.worker] = "ended"
            self.trouble.append(f"worker {news.worker} ended with status {news.facts['status']}: {news.facts['why']}")
