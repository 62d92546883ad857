"""Fencing tokens on their way to where they are checked: which ones a lease has, how they travel, what compares them.

A holder that was paused does not know that its lease is over, so no lock can stop its next write. The resource can: it
remembers the highest token it has seen and refuses lower ones (Kleppmann, "How to do distributed locking", 2016).
Tokens are ordered within one name of one store: guard a resource by the tokens of one such name, and of no other.
"""

from __future__ import annotations

import os
import re
import threading
from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, Self, TypeAlias

from locksmith import names
from locksmith.errors import ConfigurationError, GuaranteeMissing, InvalidFence, InvalidName, StaleToken
from locksmith.store import Grant, Guarantee, Store

NAME: Final = "LOCKSMITH_NAME"
"""The environment variable with the name that is held."""
TOKEN: Final = "LOCKSMITH_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable with the fencing token, in decimal digits."""
HEADER: Final = "Locksmith-Fence"
"""The HTTP header with both."""
MAX_TOKEN: Final = 2**63 - 1
MAX_HEADER: Final = 2200
"""Characters of a header's value: no name needs more, escapes included."""

_DIGITS: Final = re.compile("[1-9][0-9]{0,18}")
# An item of RFC 9651: a string, or a byte sequence where the name has other characters than a string may have. The
# token is a string as well, because integers have at most 15 digits there, and ours have 16.
_ITEM: Final = re.compile(
    r' *(?:"(?P<text>(?:[ !#-\[\]-~]|\\["\\])*)"|:(?P<bytes>[A-Za-z0-9+/]*={0,2}):); *token="(?P<token>[0-9]{1,19})" *'
)
_PLAIN: Final = re.compile("[ -~]+")


class Leased(Protocol):
    """What guards ask of a lease, blocking or asyncio."""

    @property
    def grants(self) -> tuple[Grant, ...]:
        """What the store granted, for each name that is held."""

    @property
    def store(self) -> Store:
        """The store that granted it."""

    def check(self) -> None:
        """Raises LeaseLost where the lease cannot be trusted any more."""


@dataclass(frozen=True, slots=True)
class Fence:
    """A name and the token it is held with: what is left of a lease in another process. Raises InvalidFence."""

    name: str
    token: int

    def __post_init__(self) -> None:
        try:
            names.encode(self.name)
        except InvalidName as wrong:
            raise InvalidFence(f"a fence has the name of a lock: {wrong}") from wrong
        token: object = self.token
        if not isinstance(token, int) or isinstance(token, bool) or not 1 <= token <= MAX_TOKEN:
            raise InvalidFence(f"a fencing token is a whole number from 1 to 2^63 - 1, not {token!r:.60}")

    @classmethod
    def of(cls, lease: Fence | Leased) -> Fence:
        """That of a lease with one name. Raises LeaseLost, ConfigurationError."""
        found = fences(lease)
        if len(found) != 1:
            raise ConfigurationError(f"this lease has {len(found)} names, each with a token: use fences(lease)")
        return found[0]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """From LOCKSMITH_NAME and LOCKSMITH_TOKEN, as a child of `locksmith run` finds them. Raises InvalidFence."""
        found = os.environ if environ is None else environ
        if NAME not in found or TOKEN not in found:
            raise InvalidFence(f"{NAME} and {TOKEN} are not in the environment: start this with `locksmith run`")
        return cls(found[NAME], _number(found[TOKEN]))

    def to_environment(self) -> dict[str, str]:
        """For the environment of a child process. Raises InvalidFence for a name that none can carry."""
        try:
            raw = os.fsencode(self.name)
        except UnicodeEncodeError:
            raw = b"\0"
        if b"\0" in raw:
            raise InvalidFence(f"no environment variable can hold the name {self.name!r}: pass it on in another way")
        return {NAME: self.name, TOKEN: str(self.token)}

    @classmethod
    def from_header(cls, value: str | None) -> Self:
        """From the value of the header `Locksmith-Fence`. Strict: whatever `to_header` could not have meant is refused.

        Anybody can send a header: authenticate who sends it. Raises InvalidFence.
        """
        if not isinstance(value, str):
            raise InvalidFence(f"the request has no header {HEADER}")
        if len(value) > MAX_HEADER or (item := _ITEM.fullmatch(value)) is None:
            raise InvalidFence(f'{HEADER} is written "name";token="123", not {value[:60]!r}')
        if item["text"] is not None:
            return cls(re.sub(r"\\(.)", r"\1", item["text"]), _number(item["token"]))
        return cls(_text(item["bytes"]), _number(item["token"]))

    def to_header(self) -> str:
        """The value of the header `Locksmith-Fence`: an item as RFC 9651 (structured fields) writes it."""
        if _PLAIN.fullmatch(self.name):
            escaped = re.sub(r'(["\\])', r"\\\1", self.name)
            return f'"{escaped}";token="{self.token}"'
        raw = b2a_base64(self.name.encode("utf-8", "surrogatepass"), newline=False).decode("ascii")
        return f':{raw}:;token="{self.token}"'


AnyLease: TypeAlias = Fence | Leased
"""What guards take."""


def _number(text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise InvalidFence(f"a fencing token is written in decimal digits, not {text[:60]!r}")
    return int(text)


def _text(base64: str) -> str:
    try:
        raw = a2b_base64(base64, strict_mode=True)
        # One text for each name: what decodes alike but is written otherwise was not written by us.
        if b2a_base64(raw, newline=False).decode("ascii") == base64:
            return raw.decode("utf-8", "surrogatepass")
    except (NotBase64, UnicodeDecodeError) as wrong:
        raise InvalidFence(f"the name in {HEADER} is no UTF-8 in base64") from wrong
    raise InvalidFence(f"the name in {HEADER} is not written as base64 writes it")


def fences(lease: AnyLease) -> tuple[Fence, ...]:
    """The name and token of each name that a lease holds, in the order of names, so that guards lock in one order.

    Raises LeaseLost where the lease is known to be over. Raises ConfigurationError for permits of a semaphore and for
    readers: they hold side by side, so a lower token among them is not a late one. Raises GuaranteeMissing where the
    store's tokens do not grow.
    """
    if isinstance(lease, Fence):
        return (lease,)
    found = proofs(lease)
    if Guarantee.FENCED not in lease.store.guarantees:
        raise GuaranteeMissing(f"{lease.store.address} does not offer FENCED: its tokens tell nobody who is late")
    for grant in found:
        claim = grant.claim
        if claim.permits != claim.limit:
            raise ConfigurationError(
                f"{claim.name!r} has {claim.limit} permits, and its holders work side by side: tokens order only those "
                f"who hold all of a name"
            )
    return tuple(sorted((Fence(grant.claim.name, grant.token) for grant in found), key=lambda fence: fence.name))


def proofs(lease: Leased) -> tuple[Grant, ...]:
    """What the store granted, for guards that ask the store itself. Raises LeaseLost, ConfigurationError."""
    if isinstance(lease, Fence):
        raise ConfigurationError("this guard asks the store for the holder's key: pass the lease itself, not a Fence")
    if not all(hasattr(lease, word) for word in ("grants", "store", "check")):
        raise ConfigurationError(f"a guard takes a lease or a Fence, not {type(lease).__name__}")
    lease.check()
    return lease.grants


class Watermark:
    """The check itself, for a resource that lives in this process; make one for each resource.

    It forgets with the process: a resource that outlives it has to keep the highest token beside its data.
    """

    def __init__(self, seen: Mapping[str, int] | None = None) -> None:
        """`seen`: the highest token of each name so far, as `seen` told it."""
        self._seen = dict(seen or {})
        self._lock = threading.Lock()
        self._inside: int | None = None

    @contextmanager
    def admit(self, lease: AnyLease) -> Iterator[None]:
        """Do what the `with` contains unless a higher token was here before: StaleToken then, and nothing is done.

        Nobody else is admitted meanwhile: between the check and the write there must be no gap. So no second `admit`
        of the same Watermark inside, and in asyncio no `await`: ConfigurationError for whoever tries. An equal token
        is welcome, one holder writes as often as it likes.
        """
        wanted = fences(lease)
        if self._inside == threading.get_ident():
            raise ConfigurationError("another write goes on in this thread: nest no admit, await nothing inside one")
        with self._lock:
            self._inside = threading.get_ident()
            try:
                for fence in wanted:
                    refuse_stale(fence, self._seen.get(fence.name))
                self._seen.update({fence.name: fence.token for fence in wanted})
                yield
            finally:
                self._inside = None

    def seen(self, name: str) -> int:
        """The highest token of a name that was admitted; 0 where there was none."""
        return self._seen.get(name, 0)


def refuse_stale(fence: Fence, seen: int | None) -> None:
    """Raises StaleToken where `seen`, the highest token that the resource knows, is higher."""
    if seen is not None and seen > fence.token:
        raise stale(fence, seen)


def stale(fence: Fence, seen: int | None) -> StaleToken:
    """The refusal of a fence; `seen`: by which token, if that is known."""
    by = "a later holder" if seen is None else f"the holder with token {seen}"
    return StaleToken(
        f"{fence.name!r} with token {fence.token} comes too late, {by} was here before: nothing was written; stop",
        seen=seen,
    )
