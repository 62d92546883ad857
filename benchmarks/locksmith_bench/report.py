"""Tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from locksmith_bench.contended import Contention
from locksmith_bench.standing import Standing
from locksmith_bench.uncontended import PairCost


class Screen:
    """Where progress and results are shown: the terminal, or nothing where only JSON is wanted."""

    def __init__(self, *, quiet: bool, stderr: bool = False) -> None:
        self._console = Console(quiet=quiet, stderr=stderr)

    def title(self, text: str) -> None:
        """A store begins."""
        self._console.rule(f"[bold]{text}", align="left")

    def step(self, text: str) -> None:
        """What is being measured now."""
        self._console.print(f"  measuring: {text} ...", style="dim", highlight=False)

    def pairs(self, costs: list[PairCost], title: str = "acquire + release, uncontended") -> None:
        """What one thread or task does again and again, and its floor."""
        table = _table(title, "contender", "runtime", "per second", "p50 us", "p99 us", "x floor")
        for one in costs:
            table.add_row(
                one.contender,
                one.runtime,
                f"{one.pairs_per_second:,.0f}",
                f"{one.p50_us:,.0f}",
                f"{one.p99_us:,.0f}",
                f"{one.ratio:.2f}" if one.ratio else "-",
            )
        self._console.print(table)
        # Beside the numbers, so that an unfair or unsafe lock does not look better than it is.
        for name, promises in {one.contender: one.promises for one in costs}.items():
            self._console.print(f"  {name}: {promises}", style="dim", highlight=False)

    def contended(self, runs: list[Contention]) -> None:
        """Several processes, no work inside the lock."""
        title = "contended, no work inside: hand-off from release to acquire in another process, in ms"
        table = _table(title, "contender", "procs", "acq/s", "p50", "p99", "to another", "Jain", "worst wait")
        for one in runs:
            table.add_row(
                one.contender,
                str(one.processes),
                f"{one.acquisitions_per_second:,.0f}",
                f"{one.handoff_p50_ms:.3f}",
                f"{one.handoff_p99_ms:.3f}",
                f"{one.to_another:.0%}",
                f"{one.jain:.3f}",
                f"{one.worst_wait_ms:,.1f}",
            )
        self._console.print(table)

    def standing(self, runs: list[Standing]) -> None:
        """Waiting and holding."""
        table = _table("nothing happens", "what", "count", "seconds", "requests", "connections", "threads", "CPU ms")
        for one in runs:
            table.add_row(
                one.what,
                f"{one.count:,}",
                f"{one.seconds:g}",
                "-" if one.requests is None else str(one.requests),
                "-" if one.connections is None else str(one.connections),
                str(one.threads),
                f"{one.cpu_ms:,.0f}",
            )
        self._console.print(table)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_edge=False)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table
