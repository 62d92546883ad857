"""Throwaway ZooKeeper servers: one alone, or an ensemble."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from locksmith.testing.servers.base import Server, ServerFailed
from locksmith.testing.servers.certificates import Certificates, make_certificates
from locksmith.testing.servers.ports import HOST, Port

_PROBE_SECONDS: Final = 2.0
_PAUSE: Final = 0.02
# Debian's package: the first archive names the others that it needs, but for one that writes the log and those for TLS.
_JARS: Final = Path("/usr/share/java")
_DEBIAN: Final = (_JARS / "zookeeper.jar", _JARS / "slf4j-simple.jar", _JARS / "netty-codec.jar")
# A JVM that starts fast and stays small.
_JVM: Final = (
    "-Xmx128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dzookeeper.admin.enableServer=false",
    "-Dzookeeper.jmx.log4j.disable=true",
    "-Dzookeeper.preAllocSize=512",
)
_NETTY: Final = "-Dzookeeper.serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory"


class ZooKeeperServer(Server):
    """A real ZooKeeper server on a loopback port.

    What it has answered is on its disk, so that neither `restart` nor `kill` makes it forget anything.

    Args:
        tick: tickTime in seconds: how exactly the ends of sessions are told.
        min_session: the shortest session that it keeps, in seconds.
        max_session: the longest.
        tls: speak TLS, and nothing else, on `port`; clients have to show a certificate of `certificates`.
        config: further lines of zoo.cfg, such as `{"4lw.commands.whitelist": "srvr"}`.
    """

    program: ClassVar[str] = "zookeeper"
    start_seconds: ClassVar[float] = 60.0

    def __init__(
        self,
        *,
        tick: float = 0.1,
        min_session: float = 0.2,
        max_session: float = 120.0,
        tls: bool = False,
        config: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.tls = tls
        self._settings = {
            "tickTime": str(round(tick * 1000)),
            "minSessionTimeout": str(round(min_session * 1000)),
            "maxSessionTimeout": str(round(max_session * 1000)),
            "initLimit": "200",
            "syncLimit": "50",
            "maxClientCnxns": "0",
            "4lw.commands.whitelist": "*",
        } | dict(config or {})
        self._certificates: Certificates | None = None
        self._plain_port: Port | None = None

    def close(self) -> None:
        """See Server.close."""
        super().close()
        if self._plain_port is not None:
            self._plain_port.close()
            self._plain_port = None

    @property
    def url(self) -> str:
        """Its URL, without a chroot."""
        return self.url_for()

    def url_for(self, path: str = "", *, user: str = "", options: str = "") -> str:
        """Its URL with a chroot (`/app`), as a user (`name:password`), with further options (`timeout=2`)."""
        who = f"{user}@" if user else ""
        query = "&".join(part for part in (self._tls_options(), options) if part)
        return f"zookeeper://{who}{self.host}:{self.port}{path}{f'?{query}' if query else ''}"

    @property
    def certificates(self) -> Certificates:
        """Its authority, and the certificates of the server and of a client. Raises ServerFailed unless `tls`."""
        if self._certificates is None:
            raise ServerFailed("this server has no certificates: say ZooKeeperServer(tls=True), and start it")
        return self._certificates

    def command(self, word: str) -> str:
        """What it says to a four-letter word: `server.command("srvr")`. Raises OSError."""
        with socket.create_connection(self._plain_address(), timeout=_PROBE_SECONDS) as connection:
            connection.sendall(word.encode())
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")

    # ------------------------------------------------------------------ inside

    def _plain_address(self) -> tuple[str, int]:
        return self.address if self._plain_port is None else (HOST, self._plain_port.number)

    def _tls_options(self) -> str:
        if not self.tls:
            return ""
        files = self.certificates
        return f"use_ssl=true&ca={files.authority}&certfile={files.client}&keyfile={files.client_key}"

    def _prepare(self) -> None:
        if self.tls:
            self._certificates = make_certificates(self.folder / "tls")
            self._plain_port = Port()

    def _command(self, executable: Path) -> Sequence[str]:
        path = self.folder / "zoo.cfg"
        path.write_text("".join(f"{key}={value}\n" for key, value in self._lines()), "utf-8")
        flags = [*_JVM, *([_NETTY] if self.tls else [])]
        if all(jar.exists() for jar in _DEBIAN):
            jars = ":".join(str(jar) for jar in _DEBIAN)
            return ["java", *flags, "-cp", jars, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(path)]
        log = f"ZOO_LOG_DIR={self.folder}"
        return ["env", log, f"SERVER_JVMFLAGS={' '.join(flags)}", str(executable), "start-foreground", str(path)]

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield from self._settings.items()
        yield "dataDir", str(self.folder / "data")
        if self._plain_port is None:
            yield "clientPort", str(self.port)
            yield "clientPortAddress", self.host
            return
        files = self.certificates
        pair = self.folder / "tls" / "pair.pem"
        pair.write_bytes(files.server_key.read_bytes() + files.server.read_bytes())
        yield "clientPort", str(self._plain_port.number)
        yield "clientPortAddress", self.host
        yield "secureClientPort", str(self.port)
        yield "secureClientPortAddress", self.host
        yield "ssl.keyStore.location", str(pair)
        yield "ssl.trustStore.location", str(files.authority)

    def _answers(self) -> bool:
        # Asked for its folder as well, because a stranger may have taken the port: then ours is about to exit.
        return self.serves() and (self._allowed("conf") is False or str(self.folder) in self.command("conf"))

    def _allowed(self, word: str) -> bool:
        words = self._settings["4lw.commands.whitelist"]
        return words == "*" or word in words

    def serves(self) -> bool:
        """Whether it serves clients: alone, or as a member of a quorum. Raises OSError."""
        return "Mode:" in self.command("srvr") if self._allowed("srvr") else True

    @property
    def mode(self) -> str:
        """What it is now: "standalone", "leader", "follower"; "" while it does not serve. Raises OSError."""
        said = self.command("srvr")
        return said.split("Mode: ", 1)[1].split()[0] if "Mode: " in said else ""


class ZooKeeperMember(ZooKeeperServer):
    """One server of an ensemble. It counts as started when it listens: whether it serves is the quorum's business."""

    def __init__(self, number: int, peers: Mapping[int, tuple[int, int]], **settings: float) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]  # tick, min_session, max_session
        self.number = number
        self._peers = peers

    def _prepare(self) -> None:
        super()._prepare()
        (self.folder / "data").mkdir()
        (self.folder / "data" / "myid").write_text(str(self.number))

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield from super()._lines()
        yield "standaloneEnabled", "false"
        for number, (peer, election) in self._peers.items():
            yield f"server.{number}", f"{HOST}:{peer}:{election}"

    def _answers(self) -> bool:
        return bool(self.command("srvr"))


class ZooKeeperEnsemble:
    """Servers that elect a leader among them. Each of `members` can be killed, paused and started on its own.

    Args:
        count: how many.
        settings: tick, min_session and max_session of each; see ZooKeeperServer.
    """

    settle_seconds: float = 60.0
    """How long they may take to elect a leader."""

    def __init__(self, count: int = 3, **settings: float) -> None:
        self._stack = ExitStack()
        self._count = count
        self._settings = settings
        self.members: list[ZooKeeperMember] = []

    def start(self) -> Self:
        """Start them all, and return when they serve.

        Raises:
            ServerMissing: ZooKeeper is not installed; the message has the line that installs it.
            ServerFailed: one did not start, or they did not agree in time.
        """
        try:
            ports = {number: (self._port(), self._port()) for number in range(1, self._count + 1)}
            for number in ports:
                self.members.append(self._stack.enter_context(ZooKeeperMember(number, ports, **self._settings)))
            self.settle(self._count)
        except BaseException:
            self.close()
            raise
        return self

    def settle(self, serving: int) -> None:
        """Return when so many of them serve. Raises ServerFailed."""
        deadline = time.monotonic() + self.settle_seconds
        while sum(bool(mode) for mode in self._modes().values()) < serving:  # there is no event for it
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self!r}: no quorum within {self.settle_seconds:g} s\n{self.members[0]._tail()}")
            time.sleep(_PAUSE)

    @property
    def leader(self) -> ZooKeeperMember:
        """The leader. Raises ServerFailed while there is none."""
        for number, mode in self._modes().items():
            if mode == "leader":
                return self.members[number]
        raise ServerFailed(f"{self!r} has no leader now")

    @property
    def url(self) -> str:
        """The URL of all of them."""
        return f"zookeeper://{','.join(f'{member.host}:{member.port}' for member in self.members)}"

    def close(self) -> None:
        """End them all and remove their data. Safe to repeat."""
        self._stack.close()

    def _port(self) -> int:
        port = Port()
        self._stack.callback(port.close)
        return port.number

    def _modes(self) -> dict[int, str]:
        return {number: _mode(member) for number, member in enumerate(self.members)}

    def __enter__(self) -> Self:
        return self if self.members else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._count}>"


def _mode(member: ZooKeeperMember) -> str:
    try:
        return member.mode
    except OSError:
        return ""
