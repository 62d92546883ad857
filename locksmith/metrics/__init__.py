"""What happens to leases, as metrics for Prometheus and as structured log lines. docs/metrics.md has the tables.

`instrument` and `PrometheusCollector` need `pip install 'locksmith[metrics]'`, and raise DriverMissing without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from locksmith.errors import DriverMissing
from locksmith.metrics.lines import EventLog, log_events
from locksmith.metrics.queues import stamp

if TYPE_CHECKING:
    from locksmith.metrics.prometheus import PrometheusCollector, instrument
    from locksmith.metrics.queue_metrics import QueueCollector

__all__ = ["EventLog", "PrometheusCollector", "QueueCollector", "instrument", "log_events", "stamp"]

_LATER = {
    "PrometheusCollector": "locksmith.metrics.prometheus",
    "instrument": "locksmith.metrics.prometheus",
    "QueueCollector": "locksmith.metrics.queue_metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(_LATER[name]), name)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "prometheus_client":
            raise
        raise DriverMissing(
            f"{__name__}.{name} needs prometheus_client, which is not installed: pip install 'locksmith[metrics]'"
        ) from missing
    globals()[name] = value
    return value
