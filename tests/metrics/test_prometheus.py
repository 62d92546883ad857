"""The Prometheus collector: what it counts, under which labels, and that it counts nothing twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from metricsbench import Bench
from prometheus_client import CollectorRegistry, generate_latest

import locksmith
from locksmith import events
from locksmith.metrics import PrometheusCollector, instrument
from locksmith.metrics.patterns import MOST, Patterns
from locksmith.metrics.prometheus import OUTCOMES
from locksmith.testing.contract.faces import Face

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


class Reading:
    """Samples of one store and one label."""

    def __init__(self, registry: CollectorRegistry, name: str = "other", store: str = "memory") -> None:
        self.registry = registry
        self.labels = {"store": store, "name": name}

    def __call__(self, metric: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"locksmith_{metric}", self.labels | labels)

    def outcomes(self) -> dict[str, float]:
        counts = {one: self("acquisitions_total", outcome=one) or 0.0 for one in OUTCOMES}
        return {one: count for one, count in counts.items() if count}


def test_a_life(face: Face, registry: CollectorRegistry) -> None:
    async def case() -> None:
        bench = Bench(face)
        instrument(bench.client, registry)
        read = Reading(registry)
        lease = await bench.client.lock("n", ttl=30).acquire()
        assert (read("leases"), read("waiters"), read("contended_total"), read("lost_total")) == (1, 0, 0, 0)
        await bench.advance(10.5)
        assert read("renewal_seconds_count") == 1
        assert await bench.client.lock("n").try_acquire() is None
        assert read("contended_total") == 1
        assert read("wait_seconds_count") == 1  # a refused try has not waited
        await lease.release()
        assert (read("hold_seconds_count"), read("hold_seconds_sum"), read("leases")) == (1, 10.5, 0)
        assert read.outcomes() == {"acquired": 1, "refused": 1}

    face.run(case())


def test_waiting(face: Face, registry: CollectorRegistry) -> None:
    async def case() -> None:
        bench = Bench(face)
        instrument(bench.client, registry)
        read = Reading(registry)
        held = await bench.other.lock("n").acquire()

        async def wait() -> None:
            with pytest.raises(locksmith.AcquireTimeout):
                await bench.client.lock("n").acquire(wait=2.0)
            await (await bench.client.lock("n").acquire()).release()

        job = face.start(wait())
        await bench.queued()
        await face.eventually(lambda: read("waiters") == 1)
        await bench.advance(2.5)
        await face.eventually(lambda: read.outcomes() == {"timeout": 1} and read("waiters") == 1)
        await held.release()
        await job.result()
        assert read.outcomes() == {"acquired": 1, "timeout": 1}
        assert (read("waiters"), read("contended_total"), read("wait_seconds_count")) == (0, 2, 2)
        assert (read("wait_seconds_sum") or 0) >= 2.0

    face.run(case())


def test_a_waiter_that_was_passed_over_is_one_attempt(registry: CollectorRegistry) -> None:
    with locksmith.connect("memory://") as client:
        instrument(client, registry)
        for event in (
            events.Queued("n", "o"),
            events.PassedOver("n", "o"),
            events.Queued("n", "o"),
            events.Acquired("n", "o", 1, 2.0, True),
        ):
            events.emit(client._engine.hooks, event)
        read = Reading(registry)
        assert (read("contended_total"), read("waiters"), read("leases")) == (1, 0, 1)


def test_a_loss_that_is_told_before_its_beginning(registry: CollectorRegistry) -> None:
    """A process that was stopped between the store's yes and the record of it."""
    with locksmith.connect("memory://") as client:
        instrument(client, registry)
        events.emit(client._engine.hooks, events.Lost("n", "o", 1, "late", 3.0))
        events.emit(client._engine.hooks, events.Acquired("n", "o", 1, 0.0, False))
        read = Reading(registry)
        assert (read("leases"), read("lost_total"), read("acquisitions_total", outcome="acquired")) == (0, 1, 1)


def test_losses_and_errors(face: Face, registry: CollectorRegistry) -> None:
    async def case() -> None:
        bench = Bench(face)
        instrument(bench.client, registry)
        read = Reading(registry)
        await bench.client.lock("lost", ttl=30).acquire()
        kept = await bench.client.lock("kept", ttl=300).acquire()
        bench.break_("acquire", "beat", "release", "abandon")
        await bench.advance(40.0)
        with pytest.raises(locksmith.StoreUnavailable):
            await bench.client.lock("x").acquire()
        with pytest.raises(locksmith.StoreUnavailable):
            await kept.release()
        assert (read("lost_total"), read("leases"), read("hold_seconds_count")) == (1, 0, 1)
        assert (read("errors_total", operation="renew", error="StoreUnavailable") or 0) > 1
        assert read("errors_total", operation="acquire", error="StoreUnavailable") == 1
        assert read("errors_total", operation="release", error="StoreUnavailable") == 1
        assert read.outcomes() == {"acquired": 2, "failed": 1}

    face.run(case())


def test_an_interruption_is_no_error(registry: CollectorRegistry) -> None:
    with locksmith.connect("memory://") as client:
        instrument(client, registry)
        for kind in ("CancelledError", "KeyboardInterrupt", "ClientClosed"):
            events.emit(client._engine.hooks, events.Failed("n", "o", 0.0, kind, ""))
        events.emit(client._engine.hooks, events.Failed("n", "o", 0.0, "SomethingOfTheUsers", ""))
        read = Reading(registry)
        assert read.outcomes() == {"cancelled": 3, "failed": 1}
        assert read("errors_total", operation="acquire", error="other") == 1


# ------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("user:7", "user:*"),
        ("user:", "user:*"),
        ("user:7\n8", "user:*"),
        ("xuser:7", "other"),
        ("report:7:2026-01-01", "report:{user.id}:{day}"),
        ("report:7", "other"),
        ("node-1", "node-?"),
        ("node-12", "other"),
        ("a.b[c]", "a.b[c]"),
        ("aXb[c]", "other"),
        ("other", "other"),
    ],
)
def test_names_become_patterns(name: str, label: str) -> None:
    assert Patterns(["user:*", "report:{user.id}:{day}", "node-?", "a.b[c]"]).label(name) == label


def test_the_first_pattern_counts() -> None:
    assert Patterns(["user:7", "user:*", "*"]).label("user:7") == "user:7"
    assert Patterns("user:*").label("user:7") == "user:*"


@pytest.mark.parametrize("names", [[""], [7], [["a"]], [f"n{number}:*" for number in range(MOST + 1)]])
def test_patterns_that_are_refused(names: list[str]) -> None:
    with pytest.raises(locksmith.ConfigurationError, match="names= takes"):
        Patterns(names)


def test_the_number_of_series_is_bounded(registry: CollectorRegistry) -> None:
    with locksmith.connect("memory://") as client:
        instrument(client, registry, ["user:*"])
        client.lock("user:0").acquire().release()
        client.lock("order:0").acquire().release()
        lines = len(generate_latest(registry).splitlines())
        for number in range(300):
            client.lock(f"user:{number}").acquire().release()
            client.lock(f"order:{number}").acquire().release()
        assert len(generate_latest(registry).splitlines()) == lines
        assert Reading(registry, "user:*")("acquisitions_total", outcome="acquired") == 301


def test_the_store_is_its_scheme_without_secrets(registry: CollectorRegistry) -> None:
    with locksmith.connect("redis://me:hunter2@localhost:1/3?socket_timeout=0.5") as client:
        instrument(client, registry)
        with pytest.raises(locksmith.StoreUnavailable):
            client.lock("n").try_acquire()
    shown = generate_latest(registry).decode()
    assert 'store="redis"' in shown
    assert "hunter2" not in shown
    assert "localhost" not in shown


# ------------------------------------------------------------------------------------- clients and registries


def test_several_clients_share_the_metrics_of_a_registry(registry: CollectorRegistry) -> None:
    with locksmith.connect("memory://") as one, locksmith.connect("memory://") as two:
        collector = instrument(one, registry)
        collector.attach(two)
        instrument(two, registry, ["n"])  # replaces, and does not count twice
        collector.attach(one)
        one.lock("n").acquire().release()
        two.lock("n").acquire().release()
    assert Reading(registry)("acquisitions_total", outcome="acquired") == 1
    assert Reading(registry, "n")("acquisitions_total", outcome="acquired") == 1


def test_two_registries_and_detaching(registry: CollectorRegistry) -> None:
    second = CollectorRegistry()
    with locksmith.connect("memory://") as client:
        collector = instrument(client, registry)
        instrument(client, second)
        lease = client.lock("n").acquire()
        collector.detach(client)
        assert (Reading(registry)("leases"), Reading(second)("leases")) == (0, 1)
        lease.release()
        assert Reading(registry)("hold_seconds_count") == 0
        assert Reading(second)("hold_seconds_count") == 1


def test_what_is_held_and_waited_for_already_is_counted(face: Face, registry: CollectorRegistry) -> None:
    async def case() -> None:
        bench = Bench(face)
        held = await bench.client.lock("n").acquire()

        async def wait() -> None:
            await (await bench.client.lock("n").acquire(wait=60)).release()

        job = face.start(wait())
        await bench.queued()
        await face.eventually(lambda: bench.client._engine.keeper.tickets)
        instrument(bench.client, registry)
        read = Reading(registry)
        assert (read("leases"), read("waiters")) == (1, 1)
        instrument(bench.client, registry, ["n"])
        assert (read("leases"), read("waiters")) == (0, 0)
        read = Reading(registry, "n")
        assert (read("leases"), read("waiters")) == (1, 1)
        await held.release()
        await job.result()
        assert (read("leases"), read("waiters")) == (0, 0)

    face.run(case())


def test_the_default_registry_is_that_of_prometheus_client() -> None:
    from prometheus_client import REGISTRY

    with locksmith.connect("memory://") as client:
        PrometheusCollector(names=["default-registry"]).attach(client)
        client.lock("default-registry").acquire().release()
    assert Reading(REGISTRY, "default-registry")("hold_seconds_count") == 1


def test_every_metric_is_documented(registry: CollectorRegistry) -> None:
    PrometheusCollector(registry)
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `locksmith_")]
    for family in registry.collect():
        full = f"{family.name}_total" if family.type == "counter" else family.name
        (row,) = [line for line in rows if line.startswith(f"| `{full}` |")]
        assert f"| {family.type} |" in row


# ------------------------------------------------------------------------------------- processes

FORKED = """
import os, sys
import locksmith
from prometheus_client import CollectorRegistry
from locksmith.metrics import instrument
registry = CollectorRegistry()
value = lambda metric: registry.get_sample_value("locksmith_" + metric, {"store": "sqlite", "name": "other"})
one = locksmith.connect("sqlite:///" + sys.argv[1])
two = locksmith.connect("sqlite:///" + sys.argv[1])
instrument(one, registry).attach(two)
held = one.lock("parent").acquire()
pid = os.fork()
if pid == 0:
    mine = one.lock("child").acquire()
    assert value("leases") == 1, value("leases")
    also = two.lock("child too").acquire()
    assert value("leases") == 2, value("leases")
    mine.release(), also.release()
    assert value("leases") == 0, value("leases")
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert value("leases") == 1
held.release()
one.close(), two.close()
"""

MULTIPROCESS = """
import os, sys
import locksmith
from prometheus_client import CollectorRegistry, multiprocess
from locksmith.metrics import instrument
client = locksmith.connect("sqlite:///" + sys.argv[1])
instrument(client)
held = client.lock("parent").acquire()
pid = os.fork()
if pid == 0:
    client.lock("child").acquire()
    os._exit(0)  # as if it were killed
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
labels = {"store": "sqlite", "name": "other"}
value = lambda metric, **more: registry.get_sample_value("locksmith_" + metric, labels | more)
assert value("acquisitions_total", outcome="acquired") == 2
assert value("leases") == 2
multiprocess.mark_process_dead(pid)
assert value("leases") == 1
held.release()
assert value("leases") == 0
client.close()
"""

MISSING = """
import sys
sys.modules["prometheus_client"] = None
import locksmith
from locksmith import metrics
for name in ("instrument", "PrometheusCollector", "QueueCollector"):
    try:
        getattr(metrics, name)
    except locksmith.DriverMissing as missing:
        assert "pip install 'locksmith[metrics]'" in str(missing), missing
    else:
        raise AssertionError(name)
with locksmith.connect("memory://") as client:
    metrics.log_events(client)
    client.lock("n").acquire().release()
"""

LIGHT = """
import sys
import locksmith.metrics
assert not {"prometheus_client", "kombu", "asyncio"} & set(sys.modules)
"""


@pytest.fixture
def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PROMETHEUS_MULTIPROC_DIR"}


def run(script: str, environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_counts_what_it_holds_itself(tmp_path: Path, environment: dict[str, str]) -> None:
    run(FORKED, environment, str(tmp_path / "locks.db"))


def test_multiprocess_mode(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    run(MULTIPROCESS, environment | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}, str(tmp_path / "locks.db"))


def test_without_prometheus_client_it_says_what_to_install(environment: dict[str, str]) -> None:
    run(MISSING, environment)


def test_importing_it_is_light(environment: dict[str, str]) -> None:
    run(LIGHT, environment)
