"""Metrics for Prometheus, from the events of clients. One set of them per registry, for any number of clients."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from locksmith import errors, events
from locksmith.metrics.lines import INTERRUPTIONS, scheme
from locksmith.metrics.patterns import OTHER, Patterns

if TYPE_CHECKING:
    from locksmith.aio import AsyncClient
    from locksmith.client import Client
    from locksmith.engine.keeper import Keeper

WAITS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
HOLDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
RENEWALS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
OUTCOMES: Final = ("acquired", "refused", "timeout", "failed", "cancelled")
_KINDS: Final = frozenset(
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.LocksmithError)
)
_BY: Final = ("store", "name")


class _Families:
    """The metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.acquisitions = Counter(
            "locksmith_acquisitions",
            "Attempts to get a lease, by how they ended.",
            (*_BY, "outcome"),
            registry=registry,
        )
        self.contended = Counter(
            "locksmith_contended", "Attempts that did not find the name free.", _BY, registry=registry
        )
        self.wait = Histogram(
            "locksmith_wait_seconds",
            "Time until a lease began, or until a wait in line ended without one.",
            _BY,
            registry=registry,
            buckets=WAITS,
        )
        self.hold = Histogram(
            "locksmith_hold_seconds",
            "Time from the beginning of a lease to its release or loss.",
            _BY,
            registry=registry,
            buckets=HOLDS,
        )
        self.lost = Counter("locksmith_lost", "Leases that ended before they were released.", _BY, registry=registry)
        self.renewal = Histogram(
            "locksmith_renewal_seconds",
            "Time the store took to answer a renewal.",
            _BY,
            registry=registry,
            buckets=RENEWALS,
        )
        self.errors = Counter(
            "locksmith_errors",
            "Acquisitions, renewals and releases that failed, by the class of the error.",
            (*_BY, "operation", "error"),
            registry=registry,
        )
        self.leases = Gauge("locksmith_leases", "Leases held now.", _BY, registry=registry, multiprocess_mode="livesum")
        self.waiters = Gauge(
            "locksmith_waiters", "Attempts that stand in line now.", _BY, registry=registry, multiprocess_mode="livesum"
        )
        self.gauges: set[Gauge] = set()
        self._pid = os.getpid()

    def in_child(self) -> None:
        """After a fork the gauges are a copy of the parent's, and nothing that they count is ours."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            for gauge in list(self.gauges):
                gauge.set(0)


class _Series:
    """The time series of one store and one label: all begin at zero together, so that the first loss is an increase."""

    __slots__ = ("_by", "_errors", "contended", "hold", "leases", "lost", "outcome", "renewal", "wait", "waiters")

    def __init__(self, families: _Families, store: str, name: str) -> None:
        self.contended = families.contended.labels(store, name)
        self.wait = families.wait.labels(store, name)
        self.hold = families.hold.labels(store, name)
        self.lost = families.lost.labels(store, name)
        self.renewal = families.renewal.labels(store, name)
        self.leases = families.leases.labels(store, name)
        self.waiters = families.waiters.labels(store, name)
        families.gauges.update((self.leases, self.waiters))
        self.outcome = {one: families.acquisitions.labels(store, name, one) for one in OUTCOMES}
        self._errors = families.errors
        self._by = store, name

    def error(self, operation: str, kind: str) -> None:
        """Count one. There are as many kinds as classes in `locksmith.errors`, and `other`."""
        self._errors.labels(*self._by, operation, kind if kind in _KINDS else OTHER).inc()


class _Meter:
    """The hook of one client."""

    def __init__(self, families: _Families, store: str, patterns: Patterns) -> None:
        self.families: Final = families
        self._store = store
        self._label = patterns.label
        self._series: dict[str, _Series] = {}
        self._pid = os.getpid()
        # By owner. Gauges are counted from these, so that nothing is counted twice, or down without having been up.
        self._held: dict[str, tuple[_Series]] = {}
        self._queued: dict[str, tuple[_Series]] = {}
        self._lost_first: set[str] = set()
        self._hear: Final[dict[type[events.Event], Callable[[Any, _Series], None]]] = {
            events.Queued: self._on_queued,
            events.Acquired: self._on_acquired,
            events.GaveUp: self._on_gave_up,
            events.Failed: self._on_failed,
            events.Renewed: self._on_renewed,
            events.RenewalFailed: self._on_renewal_failed,
            events.Released: self._on_released,
            events.ReleaseFailed: self._on_release_failed,
            events.Lost: self._on_lost,
        }

    def __call__(self, event: events.Event) -> None:
        hear = self._hear.get(type(event))
        if hear is None:
            return
        if self._pid != os.getpid():
            self._in_child()
        hear(event, self._series_of(event.name))

    def start(self, keeper: Keeper) -> None:
        """Count what is held and waited for already."""
        for owner, hold in list(keeper.holds.items()):
            self._begun(owner, self._series_of(hold.grant.claim.name))
            if owner not in keeper.holds:
                self._ended(owner)
        for owner, ticket in list(keeper.tickets.items()):
            self._in_line(owner, self._series_of(ticket.claim.name))
            if owner not in keeper.tickets:
                self._out_of_line(owner)

    def stop(self) -> None:
        """Nothing is heard any more of what is held and waited for."""
        for owner in list(self._held):
            self._ended(owner)
        for owner in list(self._queued):
            self._out_of_line(owner)

    def _series_of(self, name: str) -> _Series:
        label = self._label(name)
        series = self._series.get(label)
        if series is None:
            series = self._series[label] = _Series(self.families, self._store, label)
        return series

    def _in_child(self) -> None:
        # What the parent holds and waits for is not ours.
        self._pid = os.getpid()
        self.families.in_child()
        self._held.clear()
        self._queued.clear()

    def _in_line(self, owner: str, series: _Series) -> bool:
        entry = (series,)
        if new := self._queued.setdefault(owner, entry) is entry:
            series.waiters.inc()
        return new

    def _out_of_line(self, owner: str) -> None:
        if (entry := self._queued.pop(owner, None)) is not None:
            entry[0].waiters.dec()

    def _begun(self, owner: str, series: _Series) -> None:
        entry = (series,)
        if self._held.setdefault(owner, entry) is entry:
            series.leases.inc()

    def _ended(self, owner: str) -> bool:
        if (entry := self._held.pop(owner, None)) is not None:
            entry[0].leases.dec()
        return entry is not None

    def _on_queued(self, event: events.Queued, series: _Series) -> None:
        # Who was passed over queues again, and is still the same attempt.
        if self._in_line(event.owner, series):
            series.contended.inc()

    def _on_acquired(self, event: events.Acquired, series: _Series) -> None:
        self._out_of_line(event.owner)
        if event.owner in self._lost_first:
            self._lost_first.discard(event.owner)
        else:
            self._begun(event.owner, series)
        series.outcome["acquired"].inc()
        series.wait.observe(event.waited)

    def _on_gave_up(self, event: events.GaveUp, series: _Series) -> None:
        self._out_of_line(event.owner)
        if event.queued:
            series.outcome["timeout"].inc()
            series.wait.observe(event.waited)
        else:
            series.outcome["refused"].inc()
            series.contended.inc()

    def _on_failed(self, event: events.Failed, series: _Series) -> None:
        self._out_of_line(event.owner)
        self._ended(event.owner)
        if event.kind in INTERRUPTIONS:
            series.outcome["cancelled"].inc()
        else:
            series.outcome["failed"].inc()
            series.error("acquire", event.kind)

    def _on_renewed(self, event: events.Renewed, series: _Series) -> None:
        series.renewal.observe(event.took)

    def _on_renewal_failed(self, event: events.RenewalFailed, series: _Series) -> None:
        series.error("renew", event.kind)

    def _on_released(self, event: events.Released, series: _Series) -> None:
        self._ended(event.owner)
        series.hold.observe(event.held)

    def _on_release_failed(self, event: events.ReleaseFailed, series: _Series) -> None:
        self._ended(event.owner)
        series.error("release", event.kind)

    def _on_lost(self, event: events.Lost, series: _Series) -> None:
        if not self._ended(event.owner):
            # The process was stopped between the grant and its record, for longer than its ttl.
            self._lost_first.add(event.owner)
        series.lost.inc()
        series.hold.observe(event.held)


_families: Final[WeakKeyDictionary[CollectorRegistry, _Families]] = WeakKeyDictionary()
_making: Final = threading.Lock()


class PrometheusCollector:
    """Counts what happens to the leases of clients, in metrics that are registered once per registry.

    `registry`: where to (None: prometheus_client's own). `names`: patterns that become the label `name` (see
    `Patterns`: at most 50, everything else is `other`). The label `store` is the scheme of the client's URL, and
    nothing else of it. Raises ConfigurationError.
    """

    def __init__(self, registry: CollectorRegistry | None = None, names: Iterable[str] = ()) -> None:
        self._patterns = Patterns(names)
        where = REGISTRY if registry is None else registry
        with _making:
            if where not in _families:
                _families[where] = _Families(where)
        self._made = _families[where]

    def attach(self, client: Client | AsyncClient) -> None:
        """Count what happens to this client's leases from now on: once, also where another collector did before."""
        meter = _Meter(self._made, scheme(client), self._patterns)
        self.detach(client)
        client.add_hook(meter)
        meter.start(client._engine.keeper)

    def detach(self, client: Client | AsyncClient) -> None:
        """Count nothing of it in this registry any more."""
        for hook in list(client._engine.hooks):
            if isinstance(hook, _Meter) and hook.families is self._made:
                client.remove_hook(hook)
                hook.stop()


def instrument(
    client: Client | AsyncClient, registry: CollectorRegistry | None = None, names: Iterable[str] = ()
) -> PrometheusCollector:
    """A new PrometheusCollector of this client; it can be attached to others as well. Raises ConfigurationError.

    Instrumenting a client again for the same registry replaces what was there, so that nothing is counted twice.
    """
    collector = PrometheusCollector(registry, names)
    collector.attach(client)
    return collector
