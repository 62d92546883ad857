"""Canonical forms: one text per value, the same in every process, and different for values that differ.

These texts are hashed into lock names, so they are an interface between versions: whoever changes one must raise
`digest.VERSION`, or two versions of a program that run side by side stop excluding each other.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from locksmith.errors import ConfigurationError

_READABLE: Final = 10**18
"""Above it integers are written in hex: Python refuses to write very long ones in decimal."""


class NoCanonicalForm(ConfigurationError):
    """A value has no canonical form: pass something else, or say yourself what the key is."""

    def __init__(self, value: object) -> None:
        self.culprit = qualified(type(value))
        super().__init__(f"a {self.culprit} has no canonical form")


def canonical(value: object) -> str:
    """The canonical form of a value, as text. Raises NoCanonicalForm."""
    try:
        return _write(value)
    except RecursionError:
        raise NoCanonicalForm(value) from None


def qualified(thing: Any) -> str:
    """Module and qualified name of a class or function: the same wherever the module is run as a script.

    In a script the module is called "__main__", and in a child that multiprocessing spawned from it "__mp_main__".
    """
    module = getattr(thing, "__module__", None) or ""
    name = getattr(thing, "__qualname__", None) or type(thing).__qualname__
    if module in ("__main__", "__mp_main__"):
        module = _script_name(module)
    return f"{module}.{name}" if module else name


def _script_name(module: str) -> str:
    main = sys.modules.get(module) or sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return PurePath(file).stem if file else "__main__"


def _write(value: object) -> str:
    if (exact := _EXACT.get(type(value))) is not None:
        return exact(value)
    if (own := getattr(type(value), "__locksmith_key__", None)) is not None:
        return f"K{_quoted(qualified(type(value)))}{_write(own(value))}"
    for types, form in _FORMS:
        if isinstance(value, types):
            return form(value)
    if is_dataclass(value) and not isinstance(value, type):
        members = {field.name: getattr(value, field.name) for field in fields(value) if field.compare}
        return f"D{_quoted(qualified(type(value)))}{_mapping(members)}"
    if _is_celery_task(value):
        return f"Q{_quoted(str(getattr(value, 'name', '')))}"
    raise NoCanonicalForm(value)


def _is_celery_task(value: object) -> bool:
    # `self` of a bound task: its name says which one it is. Known by name, since this layer knows no framework.
    return any((base.__module__, base.__qualname__) == ("celery.app.task", "Task") for base in type(value).__mro__)


def _quoted(text: str) -> str:
    # ASCII only: lone surrogates, in file names that are not UTF-8, become escapes, and the whole can be encoded.
    return json.dumps(str.__str__(text))


def _enum(value: Enum) -> str:
    # A flag with bits that have no name has none either, whatever the stubs say.
    name: str | None = value.name
    member = _write(value.value) if name is None else _quoted(name)
    return f"E{_quoted(qualified(type(value)))}{member}"


def _int(value: int) -> str:
    return f"i{int.__repr__(value) if -_READABLE < value < _READABLE else hex(value)}"


def _decimal(value: Decimal) -> str:
    # Equal numbers, one form: 1.0 is 1.00. Not by normalize(), which rounds to the context's precision.
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return f"d{value!s}"
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    if not stripped:
        return "d0"
    return f"d{'-' * sign}{stripped}e{exponent + len(text) - len(stripped)}"


def _datetime(value: datetime) -> str:
    if value.tzinfo is not None and value.utcoffset() is not None:
        # One moment, one form, whatever the zone. Some moments of the years 1 and 9999 do not exist in UTC.
        with suppress(OverflowError):
            return f"t{value.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"
    return f"t{value.isoformat()}"


def _tuple(value: tuple[Any, ...]) -> str:
    names = getattr(value, "_fields", None)
    if names is None:
        return _sequence(value)
    return f"N{_quoted(qualified(type(value)))}{_mapping(dict(zip(names, value, strict=True)))}"


def _sequence(value: Iterable[Any]) -> str:
    return f"[{','.join(map(_write, value))}]"


def _set(value: Iterable[Any]) -> str:
    return f"<{','.join(sorted(map(_write, value)))}>"


def _mapping(value: Mapping[Any, Any]) -> str:
    return f"{{{','.join(sorted(f'{_write(key)}:{_write(member)}' for key, member in value.items()))}}}"


# Subclasses before their bases: bool is an int, datetime is a date, an Enum may be anything.
_FORMS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...]] = (
    (type(None), lambda value: "n"),
    (Enum, _enum),
    (bool, lambda value: "T" if value else "F"),
    (int, _int),
    (float, lambda value: f"f{float.__repr__(value)}"),
    (str, _quoted),
    ((bytes, bytearray), lambda value: f"b{value.hex()}"),
    (Decimal, _decimal),
    (datetime, _datetime),
    (date, lambda value: f"a{value.isoformat()}"),
    (time, lambda value: f"o{value.isoformat()}"),
    (timedelta, lambda value: f"l{value.days}/{value.seconds}/{value.microseconds}"),
    (UUID, lambda value: f"u{value.hex}"),
    (PurePath, lambda value: f"p{_quoted(str(value))}"),
    (tuple, _tuple),
    (list, _sequence),
    ((set, frozenset), _set),
    (Mapping, _mapping),
    (type, lambda value: f"c{_quoted(qualified(value))}"),
)
_EXACT: Final[dict[type, Callable[[Any], str]]] = {
    types: form for types, form in _FORMS if isinstance(types, type) and types not in (Enum, PurePath, Mapping)
}
"""The same, for values of just these types: found at once."""
