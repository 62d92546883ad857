"""How many messages wait in a broker's queues, and for how long: asked through kombu, as Celery does.

Nothing is taken from a queue and put back: that would mark messages as delivered before, and change their order. So an
age is known only where a broker shows a message without delivering it (Redis), or when it was written (a folder).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

PUBLISHED: Final = "locksmith_published"
"""The header with the time of publication: Celery's messages have none, and neither have those of kombu."""
CONNECT_SECONDS: Final = 5.0


class Broker(Protocol):
    """A kombu Connection; Celery has one with `app.connection_for_read()`."""

    def clone(self) -> Any:
        """Another one with the same settings, which has not connected yet."""


@dataclass(frozen=True, slots=True)
class Queue:
    """What a broker tells of a queue."""

    name: str
    messages: int
    oldest: float | None
    """Seconds for which the oldest message has waited; None where there is none, or the broker cannot tell."""


def stamp(headers: dict[str, Any] | None = None, **_: object) -> None:
    """A receiver for Celery's signal `before_task_publish`: writes into each message when it was published.

    By the clock of this machine: ages are as exact as the clocks of machines agree.
    """
    if headers is not None:
        headers[PUBLISHED] = time.time()


def look(broker: Broker, names: Iterable[str]) -> list[Queue]:
    """Ask a broker about its queues, on a connection of our own. A queue that it does not know has no messages.

    Messages that workers have reserved are in no queue any more. Raises what kombu and its drivers raise.
    """
    with broker.clone() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_SECONDS)
        return [_look(connection, name) for name in names]


def _look(connection: Any, name: str) -> Queue:
    # A channel for each: AMQP closes the one on which somebody asked for a queue that is not there.
    channel = connection.channel()
    try:
        if connection.transport.driver_type == "redis":
            messages, published = _on_redis(channel, name)
        else:
            messages = _declared(connection, channel, name)
            published = _in_folder(channel, name) if connection.transport.driver_type == "filesystem" else None
        return Queue(name, messages, None if published is None else max(0.0, time.time() - published))
    finally:
        channel.close()


def _declared(connection: Any, channel: Any, name: str) -> int:
    try:
        return int(channel.queue_declare(queue=name, passive=True).message_count)
    except connection.channel_errors as error:
        if str(getattr(error, "reply_code", "")) == "404":
            return 0
        raise


def _on_redis(channel: Any, name: str) -> tuple[int, float | None]:
    """One list for each priority, whose oldest message is at its right end.

    Asked without kombu's declaration, which finds no queue at all where its `global_keyprefix` is set (kombu 5.7).
    """
    lists = [f"{name}{channel.sep}{step}" if step else name for step in channel.priority_steps]
    messages = sum(_ask_redis(channel, "LLEN", one) for one in lists)
    stamps = (_stamped(_ask_redis(channel, "LINDEX", one, -1)) for one in lists)
    return messages, min((stamp for stamp in stamps if stamp is not None), default=None)


def _ask_redis(channel: Any, command: str, key: str, *arguments: int) -> Any:
    # kombu's client puts the prefix before the keys of those commands that kombu uses itself.
    prefixed = command in getattr(channel.client, "PREFIXED_SIMPLE_COMMANDS", ())
    return channel.client.execute_command(command, key if prefixed else channel.global_keyprefix + key, *arguments)


def _stamped(message: bytes | str | None) -> float | None:
    # Whatever anybody may have put into that queue.
    with suppress(ValueError, KeyError, TypeError):
        return float(json.loads(message or "")["headers"][PUBLISHED])
    return None


def _in_folder(channel: Any, name: str) -> float | None:
    """One file for each message, with `.QUEUE.msg` behind a time and a UUID that have no dot."""
    written = []
    for path in Path(channel.data_folder_in).iterdir():
        if path.name.partition(".")[2] == f"{name}.msg":
            with suppress(FileNotFoundError):  # a worker has just taken it
                written.append(path.stat().st_mtime)
    return min(written, default=None)
