"""Publishing a fire, and telling apart what may succeed later and what never will."""

from __future__ import annotations

import uuid
from typing import Any, Final

from celery.beat import BeatLazyFunc
from kombu.exceptions import EncodeError

from locksmith.celery.beat.book import task_id
from locksmith.celery.receiving import HEADER
from locksmith.errors import DuplicateTaskError, LocksmithError, StoreError

_HOPELESS: Final = (EncodeError, TypeError, ValueError, LookupError, LocksmithError)
"""What a message, or a call, raises that can never be one. Anything else may be the broker's."""


class NotNow(Exception):
    """The broker cannot be reached, or what it needs cannot: the same fire may be published later."""


class Never(Exception):
    """This fire cannot be published, today or later."""


class Sender:
    """Publishes the fires of one schedule, over a connection of its own."""

    def __init__(self, app: Any, schedule: str) -> None:
        self._app = app
        self._schedule = schedule
        self._producer: Any = None

    def send(self, entry: Any, moment: int) -> str | None:
        """Publish a fire, and return its task id: whoever sends this fire again does so under the same one.

        None: it is left out, by the entry's overlap policy. Raises NotNow, Never.
        """
        identity = task_id(self._schedule, entry.name, moment)
        try:
            options = dict(entry.options)
            fire = [self._schedule, entry.name, moment, uuid.uuid4().hex]
            options["headers"] = {**(options.get("headers") or {}), "celery_beat_task": True, HEADER: fire}
            args = [_now(value) for value in entry.args or ()]
            kwargs = {name: _now(value) for name, value in (entry.kwargs or {}).items()}
            options.update(task_id=identity, producer=self._connected(), **self._apart(entry))
            task = self._app.tasks.get(entry.task)
            if task is None:
                self._app.send_task(entry.task, args, kwargs, **options)
            else:
                return task.apply_async(args, kwargs, **options).id and identity
        except DuplicateTaskError:
            return identity  # an equal call is queued or runs, and this fire is folded into it
        except StoreError as error:
            raise NotNow(str(error)) from error
        except _HOPELESS as error:
            raise Never(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            self.close()
            raise NotNow(f"{type(error).__name__}: {error}") from error
        return identity

    def _apart(self, entry: Any) -> dict[str, Any]:
        """What keeps the runs of an entry from overlapping: a key that all of its fires have."""
        if getattr(entry, "overlap", "allow") == "allow":
            return {}
        key = f"beat:{len(self._schedule)}:{self._schedule}:{entry.name}"
        return {"singleton": {"key": key, "on_duplicate": "skip"}}

    def _connected(self) -> Any:
        if self._producer is None:
            connection = self._app.connection_for_write()
            try:
                connection.connect()
                self._producer = self._app.amqp.Producer(connection, auto_declare=False)
            except BaseException:
                connection.release()
                raise
        return self._producer

    def close(self) -> None:
        """Give the connection back; the next fire opens another one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.connection.release()
            except Exception:  # noqa: BLE001 - it was broken already
                return


def _now(value: Any) -> Any:
    """An argument; one that is to be worked out when the fire is sent is worked out."""
    return value() if isinstance(value, BeatLazyFunc) else value
