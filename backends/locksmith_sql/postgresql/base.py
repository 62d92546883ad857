"""How the store asks its server: the one place where trouble becomes a StoreError, or is met by trying again."""

from __future__ import annotations

import random
from typing import Any, Final

from locksmith.store import Store
from locksmith_sql.postgresql.errors import RETRIED, Refused, Trouble, translate
from locksmith_sql.postgresql.link import Answer
from locksmith_sql.postgresql.statements import Statement, Statements
from locksmith_sql.postgresql.wire import Params

_TRIES: Final = 6


class Asking(Store):
    """Requests and their answers."""

    _statements: Statements
    _link: Any
    _hub: Any

    async def _ask(
        self, statement: Statement, params: Params, within: float | None = None, *, once: bool = False
    ) -> Answer:
        """A statement's answer. Raises StoreError. `once`: it must not be sent twice, whatever happens."""
        tries = 0
        while True:
            try:
                # A tuple from the blocking link, an awaitable from the other: a coroutine less in a blocking request.
                answer: Any = self._link.ask(statement, params, within, once=once)
                return answer if answer.__class__ is tuple else await answer
            except Refused as refused:
                # Nothing was done: somebody else was in the way.
                tries += 1
                if refused.state not in RETRIED or tries == _TRIES:
                    raise translate(refused) from refused
            except Trouble as trouble:
                raise translate(trouble) from trouble
            await self.runtime.sleep(random.uniform(0.001, 0.003) * 2**tries)

    async def _start_hub(self) -> None:
        try:
            await self._hub.start()
        except Trouble as trouble:
            raise translate(trouble) from trouble


def number(value: float) -> bytes:
    """A number as libpq takes it."""
    return b"%d" % value


def micros(seconds: float) -> bytes:
    """Seconds as the statements count them."""
    return b"%d" % round(seconds * 1_000_000)


def numbers(answer: bytes | None) -> list[int]:
    """An array of numbers as libpq writes it; empty for NULL."""
    return [int(part) for part in answer[1:-1].split(b",")] if answer else []


def array(values: list[bytes]) -> bytes:
    """An array of numbers, keys or owners: in quotes, because a key may be the word null."""
    return b'{"%b"}' % b'","'.join(values) if values else b"{}"


def raw_array(values: list[bytes | None]) -> bytes:
    """An array of bytes, and of NULLs, in the server's hexadecimal form."""
    return b"{%b}" % b",".join(b"NULL" if value is None else b'"\\\\x%b"' % value.hex().encode() for value in values)


def raw(text: bytes) -> bytes:
    """Bytes as the server writes them (bytea_output hex)."""
    return bytes.fromhex(text[2:].decode("ascii"))
