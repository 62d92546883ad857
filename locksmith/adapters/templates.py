"""Keys from templates: `report:{user.id}:{day}` over the bound arguments of a call.

Values are delimited, so that different values never give one text: a value that contains a character of the text
between two fields is written in quotes.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from inspect import BoundArguments, Parameter, Signature
from typing import Any, Final

from locksmith.adapters.canonical import NoCanonicalForm, canonical
from locksmith.errors import ConfigurationError

_FIELD: Final = re.compile(r"(\w+)((?:\.\w+|\[[^\]]+\])*)")
_STEP: Final = re.compile(r"\.(\w+)|\[([^\]]+)\]")
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_CONTAINERS: Final = (bytes, bytearray, tuple, list, set, frozenset, Mapping)
_CONVERSIONS: Final[dict[str, Callable[[object], str]]] = {"s": str, "r": repr, "a": ascii}


@dataclass(frozen=True, slots=True)
class _Field:
    """One `{...}` of a template."""

    source: str
    root: str | int
    steps: tuple[tuple[bool, str | int], ...]
    """(True, attribute) or (False, index)."""
    conversion: str | None
    spec: str

    def text(self, bound: BoundArguments) -> str:
        value: Any = self._root(bound)
        for is_attribute, what in self.steps:
            value = getattr(value, str(what)) if is_attribute else value[what]
        if self.conversion is not None:
            value = _stable(_CONVERSIONS[self.conversion](value), value)
        return _stable(format(value, self.spec), value) if self.spec else _text(value)

    def _root(self, bound: BoundArguments) -> Any:
        if isinstance(self.root, int):
            return bound.args[self.root]
        if self.root in bound.arguments:
            return bound.arguments[self.root]
        return bound.kwargs[self.root]  # a member of **kwargs


class Template:
    """A parsed template. Raises ConfigurationError for a field that the function's signature does not know."""

    def __init__(self, template: str, name: str, signature: Signature) -> None:
        self._template = template
        self._literals: list[str] = [""]
        self._fields: list[_Field] = []
        for literal, source, spec, conversion in _parse(template):
            self._literals[-1] += literal
            if source is not None:
                field = _field(template, source, conversion, spec or "")
                _check_root(field, template, name, signature)
                self._fields.append(field)
                self._literals.append("")
        between = self._literals[1:-1]
        self._reserved = frozenset("".join(between)) | ({'"'} if between else set())
        self._always_quote = "" in between  # nothing stands between two fields: {a}{b}

    def __call__(self, bound: BoundArguments) -> str:
        """The key of a call whose defaults are applied. Raises ConfigurationError where a field does not fit it."""
        text = self._literals[0]
        for field, literal in zip(self._fields, self._literals[1:], strict=True):
            try:
                value = field.text(bound)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise ConfigurationError(
                    f"field {{{field.source}}} of the key template {self._template!r} does not fit this call: {error}"
                ) from error
            text += self._delimited(value) + literal
        return text

    def _delimited(self, value: str) -> str:
        # A plain value is never empty, never begins with a quote and has no character of what ends it, so a reader
        # knows at its first character whether it is quoted and finds its end: different values, different texts.
        if value and not self._always_quote and value[0] != '"' and self._reserved.isdisjoint(value):
            return value
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _parse(template: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigurationError(f"the key template {template!r} cannot be read: {error}") from None


def _field(template: str, source: str, conversion: str | None, spec: str) -> _Field:
    match = _FIELD.fullmatch(source)
    if match is None or "{" in spec or conversion not in (None, *_CONVERSIONS):
        raise ConfigurationError(
            f"cannot read {{{source}}} in the key template {template!r}: write {{name}}, {{name.attribute}}, "
            f'{{name[0]}}, {{name["key"]}} or {{0}}, with a plain format if any'
        )
    root, path = match.groups()
    steps = tuple((bool(attribute), attribute or _index(index)) for attribute, index in _STEP.findall(path))
    return _Field(source, int(root) if root.isdecimal() else root, steps, conversion, spec)


def _index(text: str) -> str | int:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return int(text) if re.fullmatch(r"-?[0-9]+", text) else text


def _check_root(field: _Field, template: str, name: str, signature: Signature) -> None:
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if isinstance(field.root, int):
        positional = kinds.count(Parameter.POSITIONAL_ONLY) + kinds.count(Parameter.POSITIONAL_OR_KEYWORD)
        known = field.root < positional or Parameter.VAR_POSITIONAL in kinds
    else:
        known = field.root in signature.parameters or Parameter.VAR_KEYWORD in kinds
    if not known:
        arguments = ", ".join(signature.parameters) or "none"
        raise ConfigurationError(
            f"{{{field.source}}} in the key template {template!r} names no argument of {name}; it has {arguments}"
        )


def _text(value: object) -> str:
    if hasattr(type(value), "__locksmith_key__") or isinstance(value, _CONTAINERS) or is_dataclass(value):
        # Not by str(): the order of a set, and of a dict, is not the same in every process.
        return canonical(value)
    if type(value).__str__ is object.__str__ and type(value).__repr__ is object.__repr__:
        raise NoCanonicalForm(value)
    return _stable(str(value), value)


def _stable(text: str, value: object) -> str:
    if not isinstance(value, str) and _ADDRESS.search(text):
        raise ConfigurationError(f"{text!r} contains an address, which is another one in every process")
    return text
