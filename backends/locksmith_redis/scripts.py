"""The Lua scripts, read once from this package's files, and requests in Redis' protocol.

Requests are written by us rather than by the driver's packer: what does not change between two acquisitions of a name
is packed once, which saves a tenth of the cost of a request on the client.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from importlib import resources
from typing import Final

_INCLUDE: Final = re.compile(r"^--#include (\S+)$", re.MULTILINE)


class Script:
    """A script and the two ways to call it: by its SHA, and with its source where the server has forgotten it."""

    def __init__(self, name: str, words: int = 0, *, grants: bool = False) -> None:
        """`words`: how many follow the script in each call (keys, their number, arguments), where that is known.

        `grants`: whether its reply may say that somebody has something now.
        """
        self.grants = grants
        self.source = _read(name).encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()
        self.by_sha = self.head(words)
        self.by_source = self.head(words, source=True)

    def head(self, words: int, *, source: bool = False) -> bytes:
        """The beginning of a call that has `words` words after the script."""
        verb = word(b"EVAL") + word(self.source) if source else word(b"EVALSHA") + word(self.sha)
        return b"*%d\r\n" % (words + 2) + verb


def word(text: bytes) -> bytes:
    """One word of a request."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def request(*words: bytes) -> bytes:
    """A request."""
    return b"*%d\r\n" % len(words) + b"".join(map(word, words))


def _read(name: str) -> str:
    text = resources.files("locksmith_redis").joinpath("lua", name).read_text("utf-8")
    return _INCLUDE.sub(lambda found: _read(found[1]), text)


class Keys:
    """How names are written on the server: namespace, kind, and the name in a hash tag, so that all that belongs to a
    name lies in one slot of a cluster. The namespace has been encoded, so it has no braces.
    """

    def __init__(self, namespace: str) -> None:
        self.prefix = namespace.encode("ascii")
        self.of_name = lru_cache(maxsize=4096)(self._of_name)
        self.counted = lru_cache(maxsize=4096)(self._counted)
        self.pace = lru_cache(maxsize=4096)(self._pace)

    def each(self, key: str) -> list[bytes]:
        """The four keys of a name: state more line held."""
        tag = b"{%b}" % key.encode("ascii")
        return [b"%b:%b:%b" % (self.prefix, kind, tag) for kind in (b"lock", b"more", b"line", b"held")]

    def _of_name(self, key: str) -> bytes:
        """The four keys of a name, as words of a request."""
        return b"".join(map(word, self.each(key)))

    def _counted(self, key: str) -> bytes:
        """The four keys of a name with their number before them."""
        return b"$1\r\n4\r\n" + self._of_name(key)

    def cell(self, key: str) -> bytes:
        """The key of a cell."""
        return b"%b:cell:{%b}" % (self.prefix, key.encode("ascii"))

    def _pace(self, key: str) -> bytes:
        """The key of a pace with its number before it, as words of a request."""
        return word(b"1") + word(b"%b:pace:{%b}" % (self.prefix, key.encode("ascii")))

    def lock(self, inside: bytes) -> bytes:
        """The key of a name's state, or the pattern of such keys."""
        return b"%b:lock:{%b" % (self.prefix, inside)

    def channel(self, nonce: bytes, tag: bytes = b"") -> bytes:
        """The channel on which a client hears of its waiters; with a hash tag, a sharded channel of a cluster."""
        return b"%b:push:%b%b" % (self.prefix, b"{%b}" % tag if tag else b"", nonce)


ACQUIRE: Final = Script("acquire.lua", 10, grants=True)
RELEASE: Final = Script("release.lua", 6)
BEAT: Final = Script("beat.lua")
ABANDON: Final = Script("abandon.lua", 7)
EVICT: Final = Script("evict.lua", 6)
INSPECT: Final = Script("inspect.lua", 5)
LIVE: Final = Script("live.lua")
PUT: Final = Script("put.lua")
DELETE: Final = Script("delete.lua")
PACE: Final = Script("pace.lua", 4)
PIN: Final = Script("pin.lua", 7)
ADOPT: Final = Script("adopt.lua", 7)
QUORUM_RELEASE: Final = Script("quorum_release.lua", 8)
UNPIN: Final = Script("unpin.lua", 6)


@lru_cache(maxsize=64)
def acquiring(names: int) -> Script:
    """The script that takes so many names at once."""
    return Script("acquire_all.lua", 1 + 8 * names, grants=True)
