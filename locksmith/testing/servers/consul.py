"""A throwaway Consul server, and an ensemble of three."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote, urlencode

from locksmith.testing.servers.base import Server, ServerFailed
from locksmith.testing.servers.certificates import Certificates, make_certificates
from locksmith.testing.servers.ports import Port

_ANSWER_SECONDS: Final = 5.0
_PROBE_SECONDS: Final = 1.0
_PAUSE: Final = 0.02
_OFF: Final = -1


class ConsulServer(Server):
    """A real Consul server on a loopback port.

    Args:
        acl: refuse what a token does not allow; see `management_token` and `make_token`.
        tls: speak HTTPS, and nothing else, on `port`; see `certificates`.
        client_certificates: whether clients have to show a certificate of ours, where `tls`.
        session_ttl_min: seconds; the shortest ttl that a session may ask for. Consul's own default is 10.
        config: further settings, as in Consul's JSON, such as `{"limits": {"http_max_conns_per_client": 10}}`.
        ensemble: the servers it is one of; for `ConsulEnsemble`.
    """

    program: ClassVar[str] = "consul"
    clash: ClassVar[str] = "address already in use"

    def __init__(
        self,
        *,
        acl: bool = False,
        tls: bool = False,
        client_certificates: bool = False,
        session_ttl_min: float = 10.0,
        config: Mapping[str, Any] | None = None,
        ensemble: Sequence[ConsulServer] = (),
    ) -> None:
        super().__init__()
        self.tls = tls
        self.management_token = str(uuid.uuid4()) if acl else None
        self._node = f"locksmith-{uuid.uuid4().hex[:12]}"
        self._client_certificates = client_certificates
        self._session_ttl_min = session_ttl_min
        self._config = dict(config or {})
        self._ensemble = ensemble
        self._certificates: Certificates | None = None
        self._inner: dict[str, Port] = {}

    # ------------------------------------------------------------------ addresses

    @property
    def url(self) -> str:
        """Its URL, with the management token and the TLS files where it needs them."""
        return self.url_for()

    def url_for(
        self,
        *,
        token: str | None = None,
        address: tuple[str, int] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> str:
        """A URL of this server for another token or address (that of a proxy in front of it). "": no token."""
        host, port = address or self.address
        secret = self.management_token if token is None else token
        wanted = {**self._tls_options(), **(options or {})}
        query = f"/?{urlencode(wanted)}" if wanted else ""
        user = f":{quote(secret, safe='')}@" if secret else ""
        return f"{'consuls' if self.tls else 'consul'}://{user}{host}:{port}{query}"

    @property
    def certificates(self) -> Certificates:
        """Its authority, and the certificates of the server and of a client. Raises ServerFailed unless `tls`."""
        if self._certificates is None:
            raise ServerFailed("this server has no certificates: say ConsulServer(tls=True), and start it")
        return self._certificates

    # ------------------------------------------------------------------ asking it

    def ask(self, method: str, path: str, body: object = None, *, seconds: float = _ANSWER_SECONDS) -> Any:
        """One request over a connection of its own, with the management token: `server.ask("GET", "/v1/agent/self")`.

        None where there is no such thing (404). Raises OSError where it cannot be asked or refuses.
        """
        host, port = self.address
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        more: dict[str, Any] = {"context": self._context()} if self.tls else {}
        connection = kind(host, port, timeout=seconds, **more)
        headers = {} if self.management_token is None else {"X-Consul-Token": self.management_token}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = connection.getresponse()
            said = reply.read()
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP: {error!r}") from error
        finally:
            connection.close()
        if reply.status == http.HTTPStatus.NOT_FOUND:
            return None
        if reply.status != http.HTTPStatus.OK:
            raise OSError(f"{method} {path}: {reply.status} {said.decode('utf-8', 'replace')}")
        return json.loads(said) if said else None

    def make_token(self, rules: str) -> str:
        """A token that may do what these ACL rules say, and nothing else. Raises OSError."""
        name = f"policy-{uuid.uuid4().hex}"
        self.ask("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        made = self.ask("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})
        return str(made["SecretID"])

    @property
    def leads(self) -> bool:
        """Whether it is the leader. Raises OSError where it cannot be asked."""
        leader = self.ask("GET", "/v1/status/leader")
        return bool(leader) and str(leader).endswith(f":{self._inner_port('server')}")

    def _answers(self) -> bool:
        # Asked for its name, because a stranger may have taken the port: then ours is about to exit.
        said = self.ask("GET", "/v1/agent/self", seconds=_PROBE_SECONDS)
        if said["Config"]["NodeName"] != self._node:
            return False
        # One of several cannot have a leader before the others have been started.
        return bool(self._ensemble) or self.ready()

    def ready(self) -> bool:
        """Whether there is a leader that reads and writes. Raises OSError where it cannot be asked."""
        self.ask("GET", "/v1/kv/ready?consistent", seconds=_PROBE_SECONDS)
        return bool(self.ask("GET", "/v1/status/leader", seconds=_PROBE_SECONDS))

    def close(self) -> None:
        """See Server.close."""
        super().close()
        while self._inner:
            self._inner.popitem()[1].close()

    # ------------------------------------------------------------------ its configuration

    def _prepare(self) -> None:
        if self.tls:
            self._certificates = make_certificates(self.folder / "tls")

    def _command(self, executable: Path) -> Sequence[str]:
        path = self.folder / "consul.json"
        path.write_text(json.dumps(self._settings() | self._config), "utf-8")
        path.chmod(0o600)
        return [str(executable), "agent", "-config-file", str(path)]

    def _settings(self) -> dict[str, Any]:
        others = [server for server in self._ensemble if server is not self]
        settings: dict[str, Any] = {
            "server": True,
            "bootstrap_expect": max(1, len(self._ensemble)),
            "retry_join": [f"{other.host}:{other._inner_port('serf_lan')}" for other in others],
            "retry_interval": "1s",
            "node_name": self._node,
            "data_dir": str(self.folder / "data"),
            "bind_addr": self.host,
            "client_addr": self.host,
            "ports": {
                "http": _OFF if self.tls else self.port,
                "https": self.port if self.tls else _OFF,
                "dns": _OFF,
                "grpc": _OFF,
                "serf_wan": _OFF,
                "serf_lan": self._inner_port("serf_lan"),
                "server": self._inner_port("server"),
            },
            "performance": {"raft_multiplier": 1},
            "session_ttl_min": f"{self._session_ttl_min * 1000:.0f}ms",
            "limits": {"http_max_conns_per_client": 5000},
            "disable_update_check": True,
            "connect": {"enabled": False},
            "log_level": "WARN",
        }
        if self.management_token is not None:
            tokens = {"master": self.management_token}
            settings["acl"] = {"enabled": True, "default_policy": "deny", "tokens": tokens}
        if self.tls:
            files = self.certificates
            settings |= {
                "ca_file": str(files.authority),
                "cert_file": str(files.server),
                "key_file": str(files.server_key),
                "verify_incoming_https": self._client_certificates,
            }
        return settings

    def _inner_port(self, use: str) -> int:
        if use not in self._inner:
            self._inner[use] = Port()
        return self._inner[use].number

    def _context(self) -> ssl.SSLContext:
        files = self.certificates
        context = ssl.create_default_context(cafile=str(files.authority))
        context.load_cert_chain(files.client, files.client_key)
        return context

    def _tls_options(self) -> dict[str, str]:
        if not self.tls:
            return {}
        files = self.certificates
        options = {"ca": str(files.authority)}
        if self._client_certificates:
            options |= {"cert": str(files.client), "key": str(files.client_key)}
        return options


class ConsulEnsemble:
    """Servers that elect a leader among themselves: `start` or `with` begins their life, `close` ends it."""

    settle_seconds: ClassVar[float] = 60.0
    """How long they may take to elect a leader."""

    def __init__(self, count: int = 3, *, session_ttl_min: float = 10.0) -> None:
        self.servers: list[ConsulServer] = []
        self.servers += [ConsulServer(session_ttl_min=session_ttl_min, ensemble=self.servers) for _ in range(count)]
        self._stack = ExitStack()
        self._started = False

    def start(self) -> Self:
        """Start them all, and return when each of them can reach a leader. Raises ServerMissing, ServerFailed."""
        if self._started:
            raise ServerFailed(f"{self!r} runs already")
        self._started = True
        try:
            for server in self.servers:
                self._stack.enter_context(server)
            self.settle()
        except BaseException:
            self.close()
            raise
        return self

    def settle(self) -> None:
        """Return when each running server can reach a leader. Raises ServerFailed."""
        deadline = time.monotonic() + self.settle_seconds
        waiting = [server for server in self.servers if server.running]
        while waiting:
            if time.monotonic() > deadline:
                raise ServerFailed(f"{waiting} found no leader within {self.settle_seconds:g} s")
            waiting = [server for server in waiting if not _true(server.ready)]
            time.sleep(_PAUSE)

    @property
    def leader(self) -> ConsulServer:
        """The server that leads now. Raises ServerFailed where none does."""
        for server in self.servers:
            if server.running and _true(lambda server=server: server.leads):
                return server
        raise ServerFailed("there is no leader now")

    @property
    def url(self) -> str:
        """The URL of the first one: clients ask one agent, which asks the leader."""
        return self.servers[0].url

    @property
    def urls(self) -> list[str]:
        """The URL of each."""
        return [server.url for server in self.servers]

    def close(self) -> None:
        """End them all and remove their data. Safe to repeat."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self if self._started else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _true(ready: Any) -> bool:
    try:
        return bool(ready())
    except OSError:
        return False
