"""Where things lie in Consul's key-value store, and what an operation of a transaction looks like."""

from __future__ import annotations

from base64 import b64encode
from typing import Final, TypeAlias

from locksmith import names
from locksmith.store import Claim

Op: TypeAlias = str
"""An operation of a transaction, in JSON."""

MOST_OPS: Final = 60
"""Operations in one transaction; the server's own limit is 64, and 128 in later versions."""


class Keys:
    """The keys of one namespace. All of them are made of characters that URLs carry as they are."""

    def __init__(self, namespace: str) -> None:
        # No namespace is no empty part of a path, which Consul would take for another key.
        self._root = names.encode(namespace) if namespace else "~"
        self.locks = f"{self._root}/lock/"
        """What the keys of all claims begin with."""

    def line(self, key: str) -> str:
        """What the keys of all claims of a name begin with."""
        return f"{self.locks}{key}/"

    def claim(self, claim: Claim) -> str:
        """The key of one claim."""
        return f"{self.locks}{claim.key}/{claim.owner}"

    def tombstone(self, claim: Claim) -> str:
        """The key that says: whoever this owner was, it is refused."""
        return f"{self._root}/dead/{claim.owner}"

    def cell(self, name: str) -> str:
        """What the only key of a cell begins with: listing it tells a cell that is not there from a failure."""
        return f"{self._root}/cell/{names.encode(name)}/"


def op(verb: str, key: str, value: str = "", *, session: str = "", index: int = 0, flags: int = 0) -> Op:
    """An operation of a transaction. By hand: nothing in it needs an escape, and it is twice as fast."""
    more = f',"Value":"{value}"' if value else ""
    if session:
        more += f',"Session":"{session}"'
    if index:
        more += f',"Index":{index}'
    if flags:
        more += f',"Flags":{flags}'
    return f'{{"KV":{{"Verb":"{verb}","Key":"{key}"{more}}}}}'


def erasing(key: str, index: int) -> tuple[Op, Op]:
    """Delete a key that was last written at this index; fails where it was not."""
    # Not "delete-cas" alone, which succeeds where there is no such key.
    return op("check-index", key, index=index), op("delete", key)


def base64(value: bytes) -> str:
    """As Consul takes values."""
    return b64encode(value).decode("ascii")
