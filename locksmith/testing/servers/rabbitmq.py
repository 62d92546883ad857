"""A throwaway RabbitMQ server: a broker for Celery's messages, not a store."""

from __future__ import annotations

import os
import secrets
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from locksmith.testing.servers.base import Server
from locksmith.testing.servers.ports import Port

_DEBIAN: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""What Debian's wrapper on PATH calls, which itself would go on as the user "rabbitmq"."""
_PROBE_SECONDS: Final = 5.0
_VM: Final = "+S 1:1 +SDcpu 1:1 +SDio 1 +sbwt none +sbwtdcpu none +sbwtdio none"
"""One scheduler of each kind, and none that spins while it has nothing to do."""

# The methods of AMQP 0-9-1 that open a connection: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, 1.4.
_PROTOCOL: Final = b"AMQP\x00\x00\x09\x01"
_START, _START_OK = (10, 10), (10, 11)
_TUNE, _TUNE_OK = (10, 30), (10, 31)
_OPEN, _OPEN_OK = (10, 40), (10, 41)
_CLOSE, _CLOSE_OK = (10, 50), (10, 51)
_FRAME_END: Final = b"\xce"


class RabbitMQServer(Server):
    """A real RabbitMQ server on a loopback port, without plugins, with the user `guest` (password `guest`).

    One Erlang node of its own that is in no cluster. It starts no epmd, which would stay when it ends: the node's
    own port is told on its command line instead (https://www.erlang.org/doc/apps/kernel/erl_epmd.html).

    Tested with RabbitMQ 3.10 on Erlang 25.
    """

    program: ClassVar[str] = "rabbitmq"
    clash: ClassVar[str] = "eaddrinuse"
    start_seconds: ClassVar[float] = 90.0
    stop_seconds: ClassVar[float] = 30.0

    def __init__(self) -> None:
        super().__init__()
        self._node_port: Port | None = None

    def close(self) -> None:
        """See Server.close."""
        if os.getpid() == self._creator:
            self.kill()  # it takes its leave for seconds, and what it would write goes anyway
        super().close()
        self._free_node_port()

    @property
    def url(self) -> str:
        """The `amqp://` URL of its virtual host `/`, as brokers' clients take it; Celery takes `py` before it too."""
        return f"amqp://guest:guest@{self.host}:{self.port}/%2F"

    @property
    def node(self) -> str:
        """The name of its Erlang node, which is that of its folder, and so no other's."""
        return f"{self.folder.name}@localhost"

    # ------------------------------------------------------------------ inside

    def _prepare(self) -> None:
        # Erlang would make one of its own, but one that can be guessed; it opens the node to who knows it.
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(20), "ascii")
        cookie.chmod(0o400)
        (self.folder / "plugins").write_text("[].\n", "ascii")
        (self.folder / "env.conf").touch()

    def _command(self, executable: Path) -> Sequence[str]:
        self._free_node_port()
        self._node_port = Port()
        (self.folder / "advanced.config").write_text(self._config(), "utf-8")
        program = _DEBIAN if _DEBIAN.exists() else executable
        return ["env", "-i", *(f"{name}={value}" for name, value in self._environment()), str(program)]

    def _config(self) -> str:
        # As Erlang terms: RabbitMQ spends a second on translating its other format. Alarms stop publishers for as long
        # as a machine is short of memory or disk, which a test would wait for in vain.
        return f"""[{{rabbit, [
            {{tcp_listeners, [{{"{self.host}", {self.port}}}]}},
            {{num_tcp_acceptors, 1}},
            {{vm_memory_high_watermark, {{absolute, 4294967296}}}},
            {{disk_free_limit, 1000000}},
            {{log, [{{console, [{{enabled, true}}, {{level, warning}}]}}, {{file, [{{file, false}}]}}]}}
        ]}}].
        """

    def _environment(self) -> Iterator[tuple[str, str]]:
        """All of it: what somebody's RABBITMQ_ variables say is about another server."""
        assert self._node_port is not None
        folder = self.folder
        # A node from the beginning, under the name that RabbitMQ is told below: it would ask an epmd for one otherwise.
        node = f"-sname {self.node} -erl_epmd_port {self._node_port.number}"
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        yield "PATH", os.environ.get("PATH", os.defpath)
        yield "HOME", str(folder)  # where the cookie is
        yield "LC_ALL", "C.UTF-8"
        yield "ERL_CRASH_DUMP_SECONDS", "0"
        # For the server, and for what it runs once a minute lest there be no epmd: a node that starts one, and ends.
        yield "ERL_ZFLAGS", "-start_epmd false"
        # So that the script becomes the server: it would stay beside it otherwise, and be the one that gets a SIGKILL.
        yield "RABBITMQ_ALLOW_INPUT", "1"
        yield "RABBITMQ_NODENAME", self.node
        yield "RABBITMQ_CONF_ENV_FILE", str(folder / "env.conf")
        yield "RABBITMQ_CONFIG_FILE", str(folder / "rabbitmq")
        yield "RABBITMQ_ADVANCED_CONFIG_FILE", str(folder / "advanced.config")
        yield "RABBITMQ_ENABLED_PLUGINS_FILE", str(folder / "plugins")
        yield "RABBITMQ_MNESIA_BASE", str(folder / "data")
        yield "RABBITMQ_LOG_BASE", str(folder / "log")
        yield "RABBITMQ_GENERATED_CONFIG_DIR", str(folder / "generated")
        yield "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", f"-noinput {node} {loopback} {_VM}"

    def _answers(self) -> bool:
        with socket.create_connection(self.address, timeout=_PROBE_SECONDS) as connection:
            # A stranger may have taken the port: then ours is about to end. Its cluster is named after its node.
            return self.folder.name.encode() in _open(connection)

    def _free_node_port(self) -> None:
        if self._node_port is not None:
            self._node_port.close()
            self._node_port = None


def _open(connection: socket.socket) -> bytes:
    """Open a connection of AMQP as the user guest and close it; what the server said about itself. Raises OSError."""
    connection.sendall(_PROTOCOL)
    about = _expect(connection, _START)
    _send(connection, _START_OK, struct.pack(">I", 0) + _short("PLAIN") + _long("\0guest\0guest") + _short("en_US"))
    _send(connection, _TUNE_OK, _expect(connection, _TUNE))
    _send(connection, _OPEN, _short("/") + _short("") + b"\0")
    _expect(connection, _OPEN_OK)
    _send(connection, _CLOSE, struct.pack(">H", 200) + _short("") + struct.pack(">HH", 0, 0))
    _expect(connection, _CLOSE_OK)
    return about


def _send(connection: socket.socket, method: tuple[int, int], arguments: bytes) -> None:
    payload = struct.pack(">HH", *method) + arguments
    connection.sendall(struct.pack(">BHI", 1, 0, len(payload)) + payload + _FRAME_END)


def _expect(connection: socket.socket, method: tuple[int, int]) -> bytes:
    _, _, size = struct.unpack(">BHI", _read(connection, 7))
    payload = _read(connection, size + len(_FRAME_END)).removesuffix(_FRAME_END)
    if struct.unpack_from(">HH", payload) != method:
        raise ConnectionError(f"not what an AMQP server says here: {payload[:100]!r}")
    return payload[4:]


def _read(connection: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        if not (part := connection.recv(size - len(parts))):
            raise ConnectionError("the server closed the connection")
        parts += part
    return parts


def _short(text: str) -> bytes:
    return struct.pack(">B", len(text)) + text.encode()


def _long(text: str) -> bytes:
    return struct.pack(">I", len(text)) + text.encode()
