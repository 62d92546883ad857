"""How the store asks its server: the one place where the driver's errors are translated."""

from __future__ import annotations

from typing import Any

from redis import exceptions as driver

from locksmith.store import Store
from locksmith_redis.errors import translate
from locksmith_redis.link import Answer
from locksmith_redis.scripts import Keys, Script, request
from locksmith_redis.server import Endpoint


class Asking(Store):
    """Requests and their answers."""

    _server: Endpoint
    _keys: Keys
    _link: Any
    _hub: Any

    async def _ask(self, script: Script, tail: bytes) -> Answer:
        """Call a script whose words are known in number. Raises StoreError."""
        try:
            # A tuple from the blocking link, an awaitable from the other: a coroutine less in every blocking request.
            answer = self._link.ask(script.by_sha + tail)
            return answer if answer.__class__ is tuple else await answer
        except driver.NoScriptError:
            # The server was restarted, or somebody said SCRIPT FLUSH.
            return await self._ask_raw(script.by_source + tail)
        except driver.ResponseError as error:
            return await self._refused(error, script.by_source + tail)
        except (driver.RedisError, OSError) as error:
            raise translate(error) from error

    async def _ask_words(self, script: Script, *words: bytes) -> Answer:
        """Call a script with these words. Raises StoreError."""
        packed = request(*words).partition(b"\r\n")[2]
        try:
            return await self.runtime.settle(self._link.ask(script.head(len(words)) + packed))
        except driver.NoScriptError:
            return await self._ask_raw(script.head(len(words), source=True) + packed)
        except driver.ResponseError as error:
            return await self._refused(error, script.head(len(words), source=True) + packed)
        except (driver.RedisError, OSError) as error:
            raise translate(error) from error

    async def _command(self, *words: bytes) -> Any:
        """A command's reply. Raises StoreError."""
        return (await self._ask_raw(request(*words)))[0]

    async def _refused(self, error: driver.ResponseError, payload: bytes) -> Answer:
        """What a refusal of a request comes to. Raises StoreError, unless another server is to be asked with `payload`,
        which has its script's source in it.
        """
        raise translate(error) from error

    async def _ask_raw(self, payload: bytes) -> Answer:
        try:
            return await self.runtime.settle(self._link.ask(payload))
        except driver.ResponseError as error:
            return await self._refused(error, payload)
        except (driver.RedisError, OSError) as error:
            raise translate(error) from error

    async def _ask_all(self, payloads: list[bytes], within: float) -> list[Answer | Exception]:
        """Answers in order, the driver's errors among them."""
        return await self.runtime.settle(self._link.ask_all(payloads, within))

    async def _start(self, hub: Any) -> None:
        try:
            await hub.start()
        except (driver.RedisError, OSError) as error:
            raise translate(error) from error
