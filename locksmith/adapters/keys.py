"""From the arguments of a call to the name that is locked: by template, by callable, or by digest."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import BoundArguments, Parameter, Signature
from typing import Any, Final

from locksmith.adapters.canonical import qualified
from locksmith.adapters.digest import DIGITS, Digest
from locksmith.adapters.templates import Template
from locksmith.errors import ConfigurationError
from locksmith.names import MAX_BYTES

_KEPT: Final = 200
"""Characters that a shortened key keeps for its readers."""
_SHORTENED: Final = re.compile(r"~sha256:[0-9a-f]{64}\Z")

KeyOf = Callable[[tuple[Any, ...], Mapping[str, Any]], str]


def key_maker(
    fn: Callable[..., Any],
    template: str | None,
    key: str | Callable[..., str] | None,
    unique_on: Sequence[str] | None,
) -> KeyOf:
    """What gives each call of `fn` its key. Raises ConfigurationError for settings that do not fit the function."""
    given = [what for what in (template, key, unique_on) if what is not None]
    if len(given) > 1:
        raise ConfigurationError("a template, key= and unique_on= exclude each other: give one of them")
    pattern = template if template is not None else key
    if callable(pattern):
        return _by_callable(fn, pattern)
    signature = signature_of(fn)
    if pattern is None:
        if not inspect.isfunction(fn) or fn.__name__ == "<lambda>":
            # What a partial or a bound method carries along is no argument, and all lambdas have one name.
            what = "lambda" if inspect.isfunction(fn) else type(fn).__name__
            raise ConfigurationError(
                f"a {what} has no key of its own: decorate a function with a name, or give a template or key="
            )
        digest, bind = Digest(fn, signature, unique_on), _binder(fn, signature)
        if shorten(example := digest.head + "0" * DIGITS) == example:
            return lambda args, kwargs: digest(bind(args, kwargs))  # none of its keys is shortened
        return lambda args, kwargs: shorten(digest(bind(args, kwargs)))
    if not pattern:
        raise ConfigurationError("a key has at least one character")
    return _by_template(fn, signature, Template(pattern, qualified(fn), signature))


def signature_of(fn: Callable[..., Any]) -> Signature:
    """The signature of a function. Raises ConfigurationError where Python knows none."""
    try:
        if sys.version_info >= (3, 14):
            # There annotations are evaluated when somebody asks, and names in them may be defined further down.
            from annotationlib import Format

            return inspect.signature(fn, annotation_format=Format.FORWARDREF)
        return inspect.signature(fn)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{qualified(fn)} tells nothing about its arguments: wrap it in a function of your own, or give a key "
            f"as a callable"
        ) from error


def shorten(text: str) -> str:
    """A text that a store accepts as a name: beyond its limit, the beginning and a hash of all of it. One to one."""
    raw = text.encode("utf-8", "surrogatepass")
    # What merely looks shortened is shortened too, or somebody could choose a short key to meet a long one.
    if len(raw) <= MAX_BYTES and not _SHORTENED.search(text):
        return text
    return f"{text[:_KEPT]}~sha256:{hashlib.sha256(raw).hexdigest()}"


def _by_template(fn: Callable[..., Any], signature: Signature, template: Template) -> KeyOf:
    bind = _binder(fn, signature)

    def key_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        bound = bind(args, kwargs)
        bound.apply_defaults()
        return shorten(template(bound))

    return key_of


def _by_callable(fn: Callable[..., Any], key: Callable[..., str]) -> KeyOf:
    def key_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        text: object = key(*args, **kwargs)
        if not isinstance(text, str) or not text:
            raise ConfigurationError(f"the key= of {qualified(fn)} must return text that is not empty, not {text!r}")
        return shorten(text)

    return key_of


def _binder(
    fn: Callable[..., Any], signature: Signature
) -> Callable[[tuple[Any, ...], Mapping[str, Any]], BoundArguments]:
    """What `signature.bind` does, in a third of its time for functions without stars and without "/"."""
    parameters = signature.parameters.values()
    plain = all(one.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY) for one in parameters)
    names = [one.name for one in parameters if one.kind is Parameter.POSITIONAL_OR_KEYWORD]
    known = frozenset(signature.parameters)
    needed = frozenset(one.name for one in parameters if one.default is Parameter.empty)

    def bind(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BoundArguments:
        if plain and len(args) <= len(names):
            given = dict(zip(names, args, strict=False))
            if given.keys().isdisjoint(kwargs) and known.issuperset(kwargs):
                given.update(kwargs)
                if needed.issubset(given):
                    # Not in the order of the parameters, which `apply_defaults` makes, and digests do not need.
                    return BoundArguments(signature, given)
        try:
            return signature.bind(*args, **kwargs)
        except TypeError as error:
            # What Python itself would say, in nearly its words; the function is not asked, it might run.
            raise TypeError(f"{getattr(fn, '__qualname__', fn)}(): {error}") from None

    return bind
