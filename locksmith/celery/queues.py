"""Which queue a call goes to, or a message has come from: for keys that count in one queue only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from locksmith.errors import ConfigurationError

_FIELD: Final = re.compile(r"\{(.*?)\}")


def by_queue(scope: str | None) -> bool:
    """Whether a scope tells queues apart."""
    return scope is not None and "{queue}" in scope


def filled(scope: str, task: str, queue: str) -> str:
    """A scope with the names of the task and the queue. Raises ConfigurationError for any other field."""
    known = {"task": task, "queue": queue}

    def value(field: re.Match[str]) -> str:
        if field[1] not in known:
            raise ConfigurationError(f"singleton_scope knows {{task}} and {{queue}}, not {field[0]}")
        return known[field[1]]

    if {"{", "}"} & set(_FIELD.sub("", scope)):
        raise ConfigurationError(f"singleton_scope has a brace without its counterpart: {scope!r}")
    return _FIELD.sub(value, scope)


def queue_of_call(app: Any, name: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> str:
    """Where Celery routes a call with these options of `send_task`."""
    # A copy, of which the router takes the queue away.
    routed = app.amqp.router.route(
        dict(options), options.get("route_name") or name, args, kwargs, options.get("task_type")
    )
    queue = routed.get("queue")
    return str(getattr(queue, "name", queue) or routed.get("routing_key") or app.conf.task_default_queue)


def queue_of_delivery(app: Any, info: Mapping[str, Any] | None) -> str:
    """Where a message came from that says nothing of its key: what the broker tells is only how it got there."""
    exchange, routing_key = (info or {}).get("exchange") or "", (info or {}).get("routing_key")
    if not routing_key:
        return str(app.conf.task_default_queue)
    for name, queue in app.amqp.queues.items():
        if queue.routing_key == routing_key and exchange in ("", queue.exchange.name):
            return str(name)
    return str(routing_key)
