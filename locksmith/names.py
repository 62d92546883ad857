"""Names: what users may call a thing, and how it is written on a server.

A name is any non-empty text of at most 1,024 bytes in UTF-8. Its *key* is what stores put into their own names: only
letters, digits and ``_ - . ~``, so that no store has to quote, and never more than 160 characters. Short names are
written reversibly; long ones end in a SHA-256, and stores keep the original beside the state for listings.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from locksmith.errors import InvalidName

MAX_BYTES: Final = 1024
MAX_KEY: Final = 160
_HASHED_PREFIX: Final = 64
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,160}")
_SAFE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
# Dots alone mean "here" and "up" to paths and to ZooKeeper; they are the only plain texts that need an escape.
_DOTS: Final = frozenset({".", ".."})


def encode(name: str) -> str:
    """The key of a name: one to one, case-sensitive, safe in every store. Raises InvalidName."""
    if not isinstance(name, str):
        raise InvalidName(f"a name is a string, not {type(name).__name__}: write it as text")
    return _encode(name)


@lru_cache(maxsize=4096)
def _encode(name: str) -> str:
    raw = _checked(name)
    if _PLAIN.fullmatch(name) and name not in _DOTS:
        return name
    escaped = "".join(chr(byte) if byte in _SAFE else f"~{byte:02x}" for byte in raw)
    if name in _DOTS:
        escaped = "".join(f"~{byte:02x}" for byte in raw)
    if len(escaped) <= MAX_KEY:
        return escaped
    import hashlib  # not at the top: long names are rare, and loading OpenSSL is a tenth of our import time

    # "~~" never occurs in an escaped name, so a hashed key cannot meet a plain one.
    return f"{escaped[:_HASHED_PREFIX]}~~{hashlib.sha256(raw).hexdigest()}"


def decode(key: str) -> str | None:
    """The name of a key, or None where the key only holds its hash."""
    if "~~" in key:
        return None
    raw = re.sub(rb"~([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), key.encode("ascii"))
    return raw.decode("utf-8", "surrogatepass")


def _checked(name: str) -> bytes:
    if not name:
        raise InvalidName("a name has at least one character")
    # surrogatepass: file names that are not UTF-8 arrive as lone surrogates, and are names like any other.
    raw = name.encode("utf-8", "surrogatepass")
    if len(raw) > MAX_BYTES:
        raise InvalidName(f"a name has at most {MAX_BYTES} bytes in UTF-8, this one has {len(raw)}: shorten or hash it")
    return raw
