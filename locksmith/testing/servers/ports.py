"""Loopback ports that nobody else takes while a server is down for a moment."""

from __future__ import annotations

import random
import socket
import sys
from typing import Final

HOST: Final = "127.0.0.1"
# Below the range from which kernels choose ports for outgoing connections: a client's connection must not sit on the
# port of a server that is about to be restarted.
FIRST, LAST = 20_000, 32_000
ATTEMPTS: Final = 200


class Port:
    """A port that was free a moment ago and that no other test process of ours will choose until `close`.

    The claim is an abstract Unix socket, where the system has them: the kernel drops it with the process, whatever
    becomes of it, and it leaves no file behind. A stranger may still take the port, so a server retries with another.
    """

    def __init__(self) -> None:
        """Claim one.

        Raises:
            OSError: no free port was found.
        """
        for _ in range(ATTEMPTS):
            number = random.randrange(FIRST, LAST)
            claim = _claim(number)
            if claim is None:
                continue
            if _is_free(number):
                self.number, self._claim = number, claim
                return
            claim.close()
        raise OSError(f"no free port between {FIRST} and {LAST}: {ATTEMPTS} were tried")

    def close(self) -> None:
        """Let others choose this port."""
        self._claim.close()


def _claim(number: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if sys.platform != "linux":
        return claim
    try:
        claim.bind(f"\0locksmith.testing.port.{number}")
    except OSError:
        claim.close()
        return None
    return claim


def _is_free(number: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, number))
        except OSError:
            return False
    return True
