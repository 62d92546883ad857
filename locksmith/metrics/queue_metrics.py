"""Queues of a broker as metrics for Prometheus, asked when Prometheus asks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from locksmith.errors import ConfigurationError
from locksmith.metrics.queues import Broker, look

logger: Final = logging.getLogger("locksmith.metrics")


class QueueCollector(Collector):
    """`registry.register(QueueCollector(app.connection_for_read(), ["celery"]))`: messages and age of each queue.

    Every scrape asks the broker, on a connection of its own. One that cannot be asked has no samples but
    `locksmith_broker_up 0`, and never fails a scrape. Raises ConfigurationError where no queue is named.
    """

    def __init__(self, broker: Broker, queues: Iterable[str]) -> None:
        self._broker = broker
        self._queues = [queues] if isinstance(queues, str) else list(queues)
        self._reachable = True
        if not self._queues:
            raise ConfigurationError("name the queues to look at: there is no way to ask every broker for all of them")

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The metrics without samples, so that registering asks nobody."""
        yield GaugeMetricFamily("locksmith_broker_up", "Whether the broker could be asked about its queues.")
        yield GaugeMetricFamily("locksmith_queue_messages", "Messages that wait in a queue.", labels=["queue"])
        yield GaugeMetricFamily(
            "locksmith_queue_oldest_seconds", "How long the oldest message of a queue has waited.", labels=["queue"]
        )

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask the broker."""
        up, messages, oldest = self.describe()
        try:
            found = look(self._broker, self._queues)
        except Exception as error:  # noqa: BLE001 - kombu has many drivers, each with errors of its own
            # Once per outage, and by its class: what a driver says of a broker may have its password in it.
            (logger.warning if self._reachable else logger.debug)(
                "the broker could not be asked about its queues: %s", type(error).__name__
            )
            self._reachable = False
            up.add_metric([], 0)
            yield up
            return
        self._reachable = True
        up.add_metric([], 1)
        for queue in found:
            messages.add_metric([queue.name], queue.messages)
            if queue.oldest is not None:
                oldest.add_metric([queue.name], queue.oldest)
        yield from (up, messages, oldest)
