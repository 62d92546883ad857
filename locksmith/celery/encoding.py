"""Encoders: what makes calls equal whose arguments have no canonical form of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any

from kombu.utils.imports import symbol_by_name

from locksmith.adapters.canonical import NoCanonicalForm, canonical, qualified
from locksmith.adapters.digest import DIGITS, Digest
from locksmith.adapters.keys import KeyOf, shorten, signature_of
from locksmith.errors import ConfigurationError

Encoder = Callable[[dict[str, Any]], object]


def of_configuration(conf: Mapping[str, Any]) -> Encoder | str | None:
    """`singleton_encoder`, or what celery-singleton's `singleton_json_encoder_class` comes to."""
    encoder: Encoder | str | None = conf.get("singleton_encoder")
    encoder_class = conf.get("singleton_json_encoder_class")
    if encoder is not None or encoder_class is None:
        return encoder
    found: Any = _found(encoder_class, "singleton_json_encoder_class")
    return lambda arguments: json.loads(json.dumps(arguments, sort_keys=True, cls=found))


def key_maker(fn: Callable[..., Any], encoder: Encoder | str, unique_on: Sequence[str] | None) -> KeyOf:
    """Keys by digest of what `encoder` makes of the bound arguments, defaults filled in; with `unique_on`, of those.

    Raises ConfigurationError for an encoder that cannot be found or called.
    """
    encode: Any = _found(encoder, "singleton_encoder")
    if not callable(encode):
        raise ConfigurationError(f"singleton_encoder is a callable, or its dotted path, not {encoder!r}")
    signature, name = signature_of(fn), qualified(fn)
    chosen = Digest(fn, signature, unique_on).chosen
    stars = {one.name for one in signature.parameters.values() if one.kind is Parameter.VAR_KEYWORD}

    def key_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        for star in stars:
            arguments |= arguments.pop(star)
        wanted = {what: value for what, value in arguments.items() if chosen is None or what in chosen}
        try:
            form = canonical(encode(wanted))
        except (NoCanonicalForm, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"what singleton_encoder makes of the arguments of {name} cannot be part of a key: {error}"
            ) from error
        digest = hashlib.sha256(form.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
        return shorten(f"{name}:e1:{digest}")

    return key_of


def _found(what: Any, setting: str) -> object:
    try:
        return symbol_by_name(what) if isinstance(what, str) else what
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{setting}: nothing can be imported from {what!r}: {error}") from error
