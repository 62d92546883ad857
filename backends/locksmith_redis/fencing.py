"""Guarded writes to keys of your own: a stale token's write is refused, whatever store the lease is from."""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple

from redis.exceptions import NoScriptError

from locksmith.errors import ConfigurationError
from locksmith.fencing import AnyLease, Fence, stale

LUA: Final = """\
-- Whether `token` is not below the highest that `fence` has seen, which it is raised to. Both are of 19 digits.
local function fenced(fence, token)
  if (redis.call('GET', fence) or '') > token then return false end
  redis.call('SET', fence, token)
  return true
end
"""
"""To be put at the head of a script of your own: `fenced(KEYS[n], ARGV[m])`, with the words that `fence_of` gives."""

_SCRIPT: Final = f"""\
{LUA}
-- KEYS: what is written to, its fence.  ARGV: the token, a command, and its words after the key.
if not fenced(KEYS[2], ARGV[1]) then return {{ 0, redis.call('GET', KEYS[2]) }} end
return {{ 1, redis.call(ARGV[2], KEYS[1], unpack(ARGV, 3)) }}
"""
_SHA: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Words(NamedTuple):
    """What a script of your own needs."""

    fence: str | bytes
    """A key in the same slot of a cluster as the key that is written to; for KEYS."""
    token: str
    """For ARGV."""


def fence_of(key: str | bytes, lease: AnyLease, *, fence: str | bytes | None = None) -> Words:
    """The fence of a key, and the token as the scripts compare it. Sends nothing.

    Each key has a fence of its own unless you name another key for it: then writes to all keys that share this fence
    are one resource. Raises LeaseLost where the lease is known to be over, ConfigurationError.
    """
    return Words(_beside(key) if fence is None else fence, f"{Fence.of(lease).token:019d}")


def guarded_set(
    client: Any,
    key: str | bytes,
    value: Any,
    lease: AnyLease,
    *,
    ttl: float | None = None,
    fence: str | bytes | None = None,
) -> None:
    """SET the key unless a later holder has written to it: check and write are one step on the server.

    `client`: a redis.Redis or RedisCluster. `ttl`: seconds, to the millisecond, after which the value is gone (None: it
    stays); the fence stays anyhow. `fence`: see `fence_of`.

    Raises StaleToken: nothing was written. Raises LeaseLost where the lease is known to be over before anything is
    sent; ConfigurationError. What the server says comes as redis-py's exception; asking again is safe.
    """
    guarded(client, lease, "SET", key, value, *_expiring(ttl), fence=fence)


async def guarded_set_async(
    client: Any,
    key: str | bytes,
    value: Any,
    lease: AnyLease,
    *,
    ttl: float | None = None,
    fence: str | bytes | None = None,
) -> None:
    """`guarded_set` for a client of redis.asyncio."""
    await guarded_async(client, lease, "SET", key, value, *_expiring(ttl), fence=fence)


def guarded(
    client: Any, lease: AnyLease, command: str, key: str | bytes, *words: Any, fence: str | bytes | None = None
) -> Any:
    """Run a command on one key, and return its reply as a script sees it: `guarded(r, lease, "HSET", "h", "f", 1)`.

    The words after the key are the command's. Raises as `guarded_set` does.
    """
    late = Fence.of(lease)
    call = _call(late, command, key, words, fence)
    try:
        reply = client.evalsha(_SHA, *call)
    except NoScriptError:
        reply = client.eval(_SCRIPT, *call)
    return _judged(reply, late)


async def guarded_async(
    client: Any, lease: AnyLease, command: str, key: str | bytes, *words: Any, fence: str | bytes | None = None
) -> Any:
    """`guarded` for a client of redis.asyncio."""
    late = Fence.of(lease)
    call = _call(late, command, key, words, fence)
    try:
        reply = await client.evalsha(_SHA, *call)
    except NoScriptError:
        reply = await client.eval(_SCRIPT, *call)
    return _judged(reply, late)


def _call(
    late: Fence, command: str, key: str | bytes, words: tuple[Any, ...], fence: str | bytes | None
) -> tuple[Any, ...]:
    place = fence_of(key, late, fence=fence)
    return (2, key, place.fence, place.token, command, *words)


def _judged(reply: Any, late: Fence) -> Any:
    written, said = reply
    if not written:
        raise stale(late, int(said))
    return said


def _expiring(ttl: object) -> tuple[Any, ...]:
    if ttl is None:
        return ()
    if not isinstance(ttl, int | float) or isinstance(ttl, bool) or not 0.001 <= ttl < 1e12:
        raise ConfigurationError(f"ttl is a number of seconds, at least 0.001, not {ttl!r}")
    return ("PX", round(ttl * 1000))


def _beside(key: str | bytes) -> str | bytes:
    """Another key in the slot of this one, and of no other key.

    The slot is that of what stands between the first brace and the next closing one, or of the whole key:
    https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ ("Hash tags").
    """
    if isinstance(key, bytes):
        return _text_beside(key.decode("latin-1")).encode("latin-1")
    return _text_beside(key)


def _text_beside(key: str) -> str:
    if key.partition("{")[2].find("}") > 0:
        return f"locksmith:fence-at:{key}"
    if "}" in key:
        raise ConfigurationError(f"nothing can be put beside the key {key!r}: name a fence in its slot (fence=)")
    return f"locksmith:fence-of:{{{key}}}"
