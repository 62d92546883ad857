"""The settings of one Singleton task: its attributes, the application's configuration, and those of a single call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import Parameter, Signature
from typing import Any, Final, Literal

from locksmith.adapters.digest import ADVICE
from locksmith.adapters.keys import KeyOf, key_maker
from locksmith.celery import encoding, honouring, moving
from locksmith.celery.queues import filled
from locksmith.errors import ConfigurationError
from locksmith.recipes.permits import check_seconds

Phase = Literal["until_executed", "until_executing", "until_expired", "while_executing", "until_and_while_executing"]
OnDuplicate = Literal["return", "raise", "skip", "replace", "keep_last"]

_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "phase": ("until_executed", "until_executing", "until_expired", "while_executing", "until_and_while_executing"),
    "on_duplicate": ("return", "raise", "skip", "replace", "keep_last"),
    "on_conflict": ("wait", "drop"),
    "on_store_error": ("fail", "run"),
}
_SECONDS: Final = ("ttl", "queue_ttl")
_ADVICE: Final = (
    'singleton_key="name:{{{argument}.id}}" or a function of the arguments, unique_on=[names of other arguments], '
    "singleton_encoder=a function that makes plain values of them"
)
MOST_QUEUED: Final = 100
"""Each is a place that a duplicate looks at."""


@dataclass(frozen=True, slots=True)
class Options:
    """How equal calls of a task are treated. Raises ConfigurationError for what cannot work."""

    phase: Phase = "until_executed"
    on_duplicate: OnDuplicate = "return"
    on_conflict: Literal["wait", "drop"] = "wait"
    on_store_error: Literal["fail", "run"] = "fail"
    ttl: float | None = None
    queue_ttl: float | None = None
    max_queued: int = 1

    def __post_init__(self) -> None:
        for what, choices in _CHOICES.items():
            if (value := getattr(self, what)) not in choices:
                raise ConfigurationError(f"singleton_{what} is one of {', '.join(choices)}, not {value!r}")
        for what in _SECONDS:
            if (value := getattr(self, what)) is not None:
                check_seconds(f"singleton_{what}", value, positive=True)
        if (self.phase == "until_expired") != (self.ttl is not None):
            raise ConfigurationError(
                'singleton_ttl, seconds until an equal call is accepted again, belongs to the phase "until_expired": '
                "that one needs it, and the others have no use for it"
            )
        self._check_replacing()
        most = self.max_queued
        if type(most) is not int or not 1 <= most <= MOST_QUEUED:
            raise ConfigurationError(f"singleton_max_queued is a whole number from 1 to {MOST_QUEUED}, not {most!r}")
        if most > 1 and not self.queues:
            raise ConfigurationError('singleton_max_queued: in the phase "while_executing" any number may be queued')

    def _check_replacing(self) -> None:
        if self.on_duplicate == "replace" and self.phase in ("until_expired", "while_executing"):
            raise ConfigurationError(
                f'singleton_on_duplicate="replace" is about queued calls, of which the phase {self.phase!r} knows none'
            )
        if self.on_duplicate == "keep_last" and (
            self.phase != "until_and_while_executing" or self.on_conflict != "wait" or self.max_queued != 1
        ):
            raise ConfigurationError(
                'singleton_on_duplicate="keep_last", one running and at most one waiting, needs the phase '
                '"until_and_while_executing" with singleton_on_conflict="wait" and singleton_max_queued=1'
            )

    @property
    def queues(self) -> bool:
        """Whether a call takes its key when it is published."""
        return self.phase != "while_executing"

    @property
    def replaces(self) -> bool:
        """Whether a call takes the place of an equal one that no worker has begun."""
        return self.on_duplicate in ("replace", "keep_last")

    @property
    def runs_under_queue(self) -> bool:
        """Whether the key that was taken by publishing is held while the task runs."""
        return self.phase == "until_executed"

    @property
    def runs_apart(self) -> bool:
        """Whether running takes a key of its own."""
        return self.phase in ("while_executing", "until_and_while_executing")


def read_options(task: Any, conf: Mapping[str, Any]) -> Options:
    """What a task's class says, else what the application's configuration says. Raises ConfigurationError."""
    moving.refuse(task, conf)
    found = {}
    for what in (*_CHOICES, *_SECONDS, "max_queued"):
        name = f"singleton_{what}"
        value = getattr(task, name, None)
        if value is None and what == "max_queued":
            value = getattr(task, what, None)
        if value is None:
            value = conf.get(name)
        if value is not None:
            found[what] = value
    if getattr(task, "singleton_on_duplicate", None) is None and (raises := moving.raises(task, conf)) is not None:
        found["on_duplicate"] = "raise" if raises else "return"
    if (expiry := moving.lock_expiry(task, conf)) is not None:
        if "queue_ttl" in found or found.get("phase", "until_executed") == "until_expired":
            raise ConfigurationError(f"lock_expiry is singleton_queue_ttl by another name: {moving.EITHER}")
        found["queue_ttl"] = expiry
    if found.get("on_duplicate") == "keep_last":
        found.setdefault("phase", "until_and_while_executing")  # the only one that has such a place to wait
    return Options(**found)


def for_call(options: Options, given: Any) -> tuple[Options, str | None]:
    """The options of one call, `apply_async(singleton={...})`, and its key where it brings one."""
    if given is None:
        return options, None
    known = {"on_duplicate", "key", "max_queued"}
    if not isinstance(given, Mapping) or not known.issuperset(given):
        raise ConfigurationError(f"singleton= of a call is a dict of {' and '.join(sorted(known))}, not {given!r}")
    key = given.get("key")
    if key is not None and (not isinstance(key, str) or not key):
        raise ConfigurationError(f"the key of a call is text that is not empty, not {key!r}")
    changed = {what: given[what] for what in ("on_duplicate", "max_queued") if what in given}
    return replace(options, **changed), key


def key_of_task(task: type[Any], name: str, conf: Mapping[str, Any], queue: str = "") -> KeyOf:
    """What gives each call of a task its key: over the task's name, and the arguments as its function binds them.

    `queue`: where the calls are, for a scope that counts it.
    """
    template = _plain(task, "singleton_key")
    unique_on = getattr(task, "unique_on", None)
    scope = getattr(task, "singleton_scope", None)
    if scope is not None and (not isinstance(scope, str) or not scope or template is not None):
        raise ConfigurationError(
            "singleton_scope is a text that stands for the task's name in its keys, for tasks without singleton_key"
        )
    likeness = _likeness(task, name if scope is None else filled(scope, name, queue))
    encoder = _plain(task, "singleton_encoder")
    if encoder is not None and template is not None:
        raise ConfigurationError("singleton_encoder is for tasks without singleton_key: that says the key itself")
    if encoder is None and template is None:
        encoder = encoding.of_configuration(conf)
    if encoder is not None:
        key_of = encoding.key_maker(likeness, encoder, unique_on)
    else:
        key_of = key_maker(likeness, None, template, unique_on)
    return moving.prefixed(conf, key_of)


def key_of_theirs(task: Any, name: str, conf: Mapping[str, Any]) -> honouring.TheirKeyOf | None:
    """See honouring.key_maker."""
    return honouring.key_maker(task, name, _signature(type(task)), conf)


def _plain(task: type[Any], attribute: str) -> Any:
    """An attribute of a task's class as it was written: a function, and not a method."""
    value = getattr(task, attribute, None)
    if value is None or isinstance(value, str):
        return value
    raw = inspect.getattr_static(task, attribute)
    return raw.__func__ if isinstance(raw, staticmethod) else raw


def key_by(task: type[Any], name: str, key: str | Callable[..., str]) -> KeyOf:
    """What gives each call of a task a key of another kind: by a template over its arguments, or a callable of them."""
    return key_maker(_likeness(task, name), None, key, None)


def _likeness(task: type[Any], name: str) -> Callable[..., None]:
    # A function with the task's name and signature: in another process, the module that defines the task may be called
    # something else, but the task is not.
    def likeness() -> None: ...

    likeness.__module__ = ""
    likeness.__qualname__ = likeness.__name__ = name
    setattr(likeness, ADVICE, _ADVICE)
    likeness.__signature__ = _signature(task)  # type: ignore[attr-defined]  # functions take attributes
    return likeness


def _signature(task: type[Any]) -> Signature:
    run = inspect.getattr_static(task, "run")
    if isinstance(run, staticmethod):
        return inspect.signature(run.__func__)
    signature = inspect.signature(run)
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD):
        return signature.replace(parameters=parameters[1:])
    return signature
