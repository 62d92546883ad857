"""A throwaway redis-server."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, Literal
from urllib.parse import quote, urlencode

from locksmith.testing.servers.base import Server, ServerFailed
from locksmith.testing.servers.certificates import Certificates, make_certificates
from locksmith.testing.servers.resp import RedisReplyError, Reply, ask

ClientCertificates = Literal["required", "optional", "none"]

_ANSWER_SECONDS: Final = 5.0
_PROBE_SECONDS: Final = 1.0
_TLS_CLIENTS: Final = {"required": "yes", "optional": "optional", "none": "no"}


class RedisServer(Server):
    """A real redis-server on a loopback port.

    Args:
        appendonly: write every change to an append-only file, so that `kill` loses little or nothing. Without it
            data survives `stop` and `restart` (it is saved on the way out) but not `kill`.
        password: what the default user has to give; None: nothing.
        users: further users, by name, with their ACL rules: `{"app": "on >secret ~* &* +@all -@dangerous"}`.
        tls: speak TLS, and nothing else, on `port`; see `certificates`.
        client_certificates: whether clients have to show a certificate of ours, where `tls`.
        unix_socket: listen on `unix_path` as well.
        config: further lines of redis.conf, such as `{"appendfsync": "always"}`.
    """

    program: ClassVar[str] = "redis"

    def __init__(
        self,
        *,
        appendonly: bool = False,
        password: str | None = None,
        users: Mapping[str, str] | None = None,
        tls: bool = False,
        client_certificates: ClientCertificates = "required",
        unix_socket: bool = False,
        config: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.password = password
        self.tls = tls
        self._appendonly = appendonly
        self._users = dict(users or {})
        self._client_certificates: ClientCertificates = client_certificates
        self._unix_socket = unix_socket
        self._config = dict(config or {})
        self._certificates: Certificates | None = None

    # ------------------------------------------------------------------ addresses

    @property
    def url(self) -> str:
        """The URL of database 0 for the default user, with password and TLS files where it needs them."""
        return self.url_for()

    def url_for(
        self,
        *,
        username: str = "",
        password: str | None = None,
        db: int = 0,
        address: tuple[str, int] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> str:
        """A URL of this server for another user, password, database or address (that of a proxy in front of it).

        `options` are added to those that TLS needs. A `username` without a `password` is asked for as just that.
        """
        host, port = address or self.address
        wanted = {**self.tls_options(), **(options or {})}
        query = f"?{urlencode(wanted)}" if wanted else ""
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}://{self._userinfo(username, password)}{host}:{port}/{db}{query}"

    @property
    def unix_path(self) -> Path:
        """Its Unix socket. Raises ServerFailed unless it was asked for."""
        if not self._unix_socket:
            raise ServerFailed("this server has no Unix socket: say RedisServer(unix_socket=True)")
        return self.folder / "redis.sock"

    @property
    def unix_url(self) -> str:
        """The `redis+unix://` URL of its Unix socket. Raises ServerFailed unless it was asked for."""
        return f"redis+unix://{self._userinfo('', None)}{quote(str(self.unix_path))}?db=0"

    @property
    def certificates(self) -> Certificates:
        """Its authority, and the certificates of the server and of a client. Raises ServerFailed unless `tls`."""
        if self._certificates is None:
            raise ServerFailed("this server has no certificates: say RedisServer(tls=True), and start it")
        return self._certificates

    # ------------------------------------------------------------------ asking it

    def command(self, *words: str | int) -> Reply:
        """One command over a connection of its own, as the default user: `server.command("CONFIG", "GET", "save")`.

        Raises:
            RedisReplyError: the server refused the command.
            OSError: the server could not be reached, or did not answer within 5 s.
        """
        return self._ask(_ANSWER_SECONDS, *words)

    def _ask(self, seconds: float, *words: str | int) -> Reply:
        with self._connection(seconds) as connection:
            if self.password is not None:
                ask(connection, "AUTH", self.password)
            return ask(connection, *words)

    @contextlib.contextmanager
    def _connection(self, seconds: float) -> Iterator[socket.socket]:
        with socket.create_connection(self.address, timeout=seconds) as plain:
            if not self.tls:
                yield plain
                return
            files = self.certificates
            context = ssl.create_default_context(cafile=str(files.authority))
            context.load_cert_chain(files.client, files.client_key)
            with context.wrap_socket(plain, server_hostname=self.host) as secure:
                yield secure

    def _answers(self) -> bool:
        try:
            # Asked for its process id, because a stranger may have taken the port: then ours is about to exit. And
            # INFO alone is answered while it is still reading its data.
            ours = f"process_id:{self.pid}" in str(self._ask(_PROBE_SECONDS, "INFO", "server")).split()
            return ours and self._ask(_PROBE_SECONDS, "PING") == "PONG"
        except RedisReplyError as refusal:
            # Unless it is still loading, it answers: somebody locked the default user out.
            return not str(refusal).startswith("LOADING")

    # ------------------------------------------------------------------ its configuration

    def share(self, certificates: Certificates) -> None:
        """Use these certificates instead of some of its own. Call it before the first start."""
        self._certificates = certificates

    def _prepare(self) -> None:
        if self.tls and self._certificates is None:
            self._certificates = make_certificates(self.folder / "tls")

    def _command(self, executable: Path) -> Sequence[str]:
        path = self.folder / "redis.conf"
        path.write_text("".join(f"{line}\n" for line in self._lines()), "utf-8")
        path.chmod(0o600)
        return [str(executable), str(path)]

    def _lines(self) -> Iterator[str]:
        settings = {
            "bind": self.host,
            "port": "0" if self.tls else str(self.port),
            "protected-mode": "no",
            "daemonize": "no",
            "dir": _quoted(str(self.folder)),
            # Nothing is saved by itself within an hour, but a clean stop does save.
            "save": "3600 1",
            "appendonly": "yes" if self._appendonly else "no",
        }
        if self.tls:
            settings |= self._tls_settings()
        if self._unix_socket:
            settings |= {"unixsocket": _quoted(str(self.unix_path)), "unixsocketperm": "700"}
        if self.password is not None:
            settings["requirepass"] = _quoted(self.password)
        settings |= self._config
        yield from (f"{name} {value}" for name, value in settings.items())
        yield from (f"user {name} {rules}" for name, rules in self._users.items())

    def _tls_settings(self) -> dict[str, str]:
        files = self.certificates
        return {
            "tls-port": str(self.port),
            "tls-ca-cert-file": _quoted(str(files.authority)),
            "tls-cert-file": _quoted(str(files.server)),
            "tls-key-file": _quoted(str(files.server_key)),
            "tls-auth-clients": _TLS_CLIENTS[self._client_certificates],
            # What it shows to other servers.
            "tls-client-cert-file": _quoted(str(files.client)),
            "tls-client-key-file": _quoted(str(files.client_key)),
            "tls-replication": "yes",
        }

    def tls_options(self) -> dict[str, str]:
        """What a URL needs to reach it by TLS."""
        if not self.tls:
            return {}
        files = self.certificates
        options = {"ssl_ca_certs": str(files.authority)}
        if self._client_certificates != "none":
            options |= {"ssl_certfile": str(files.client), "ssl_keyfile": str(files.client_key)}
        return options

    def _userinfo(self, username: str, password: str | None) -> str:
        if password is None and not username:
            password = self.password
        if password is None:
            return f"{quote(username, safe='')}@" if username else ""
        return f"{quote(username, safe='')}:{quote(password, safe='')}@"


def _quoted(text: str) -> str:
    """As redis.conf reads it: in double quotes, whatever bytes it has."""
    plain = set(range(0x20, 0x7F)) - {ord('"'), ord("\\")}
    raw = text.encode("utf-8", "surrogateescape")
    return '"' + "".join(chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in raw) + '"'
