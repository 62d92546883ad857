"""The default key: a versioned digest of a function's qualified name and the arguments of the call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from inspect import BoundArguments, Parameter, Signature
from typing import Any, Final

from locksmith.adapters.canonical import NoCanonicalForm, canonical, qualified
from locksmith.errors import ConfigurationError

VERSION: Final = "v1"
"""Part of every digest, and of the key that people read. Raised when a canonical form changes."""
DIGITS: Final = 40
ADVICE: Final = "__locksmith_advice__"
"""An attribute of functions that get their keys by other settings than those of run_once: how it is said there."""
_ADVICE: Final = (
    'run_once("name:{{{argument}.id}}"), key=a function of the arguments, unique_on=[names of other arguments]'
)


class Digest:
    """Keys of one function: `name:v1:hex`. With `unique_on`, of some of its arguments only."""

    def __init__(self, fn: Callable[..., Any], signature: Signature, unique_on: Sequence[str] | None) -> None:
        self._name = qualified(fn)
        self.chosen = None if unique_on is None else frozenset(_checked(self._name, signature, unique_on))
        """What `unique_on` names; None for everything."""
        self._advice: str = getattr(fn, ADVICE, _ADVICE)
        self._text = f"locksmith run_once {VERSION}\n{self._name}"
        self.head = f"{self._name}:{VERSION}:"
        """What all keys of this function begin with; `DIGITS` hexadecimal digits follow."""
        self._parameters = signature.parameters
        self._defaults = {name: _default_form(parameter) for name, parameter in signature.parameters.items()}

    def __call__(self, bound: BoundArguments) -> str:
        """The key of a call. Raises ConfigurationError for an argument that has no canonical form."""
        members = sorted(f"{name}={form}" for name, form in self._forms(bound))
        text = "\n".join([self._text, *members])
        return self.head + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]

    def _forms(self, bound: BoundArguments) -> list[tuple[str, str]]:
        forms = []
        for name, value in bound.arguments.items():
            parameter = self._parameters[name]
            if parameter.kind is Parameter.VAR_KEYWORD:
                # A mark of their own: a positional-only parameter may have the same name as a member.
                chosen = {k: v for k, v in value.items() if self._wants(k) or self._wants(name)}
                forms += [(f"**{member!a}", self._form(member, v)) for member, v in chosen.items()]
            # A default as it stands is left out by identity: it may be a sentinel, or a list that somebody has changed.
            elif self._wants(name) and value is not parameter.default:
                form = self._form(name, value)
                if form != self._defaults[name]:
                    # How *args is called means nothing to the caller, so it may be renamed.
                    forms.append(("*" if parameter.kind is Parameter.VAR_POSITIONAL else name, form))
        return forms

    def _wants(self, name: str) -> bool:
        return self.chosen is None or name in self.chosen

    def _form(self, argument: str, value: object) -> str:
        try:
            return canonical(value)
        except NoCanonicalForm as error:
            raise ConfigurationError(
                f"argument {argument!r} of {self._name} cannot be part of a key: {error}. Say what makes calls the "
                f"same: {self._advice.format(argument=argument)}, or give {error.culprit} a method "
                f"__locksmith_key__(self) that returns plain values"
            ) from error


def _checked(name: str, signature: Signature, unique_on: Sequence[str]) -> Sequence[str]:
    chosen = [unique_on] if isinstance(unique_on, str) else list(unique_on)
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    for wanted in chosen:
        if not isinstance(wanted, str):
            raise ConfigurationError(f"unique_on lists names of arguments, not {wanted!r}")
        if wanted not in signature.parameters and Parameter.VAR_KEYWORD not in kinds:
            known = ", ".join(signature.parameters) or "none"
            raise ConfigurationError(f"{name} has no argument {wanted!r} for unique_on; it has {known}")
    return chosen


def _default_form(parameter: Parameter) -> str | None:
    # Compared by form and not by ==, for which 1, 1.0 and True are the same.
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return canonical(())
    try:
        return None if parameter.default is Parameter.empty else canonical(parameter.default)
    except NoCanonicalForm:
        return None
