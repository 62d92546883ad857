"""Throwaway etcd servers: one, or three that elect a leader."""

from __future__ import annotations

import http.client
import json
import ssl
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote, urlencode

from locksmith.testing.servers.base import Server, ServerFailed
from locksmith.testing.servers.certificates import Certificates, make_certificates
from locksmith.testing.servers.ports import HOST, Port
from locksmith.testing.servers.programs import ServerMissing

_PROBE_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 10.0
ROOT: Final = "root"


@dataclass(frozen=True)
class EtcdUser:
    """A user and the keys that they may read and write: all that begin with `prefix`."""

    password: str
    prefix: str


class EtcdServer(Server):
    """A real etcd on a loopback port, its peers' port beside it.

    Args:
        heartbeat, election: seconds. The smallest ttl of a lease is half as much again as `election`, rounded up to
            whole seconds: one second as it is here.
        password: of the user root; with it authentication is on, and `users` have to show theirs.
        users: further users by name.
        tls: speak TLS on `port`; see `certificates`. Clients have to show a certificate where `client_certificates`.
        flags: further flags of etcd, such as `{"quota-backend-bytes": "16777216"}`.
    """

    program: ClassVar[str] = "etcd"
    clash: ClassVar[str] = "address already in use"

    def __init__(
        self,
        *,
        heartbeat: float = 0.05,
        election: float = 0.5,
        password: str | None = None,
        users: Mapping[str, EtcdUser] | None = None,
        tls: bool = False,
        client_certificates: bool = True,
        flags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.password = password
        self.tls = tls
        self.name = "alone"
        self._peer: Port | None = None
        self._heartbeat, self._election = heartbeat, election
        self._users = dict(users or {})
        self._client_certificates = client_certificates
        self._flags = dict(flags or {})
        self._ensemble = ""
        self._certificates: Certificates | None = None
        self._has_users = False

    # ------------------------------------------------------------------ addresses

    @property
    def url(self) -> str:
        """Its URL, for root where authentication is on, with the TLS files that it wants."""
        return self.url_for()

    def url_for(
        self,
        *,
        username: str | None = None,
        password: str | None = None,
        address: tuple[str, int] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> str:
        """A URL for another user or address (that of a proxy in front of it), with further options."""
        host, port = address or self.address
        if username is None and self.password is not None:
            username, password = ROOT, self.password
        user = "" if username is None else f"{quote(username, safe='')}:{quote(password or '', safe='')}@"
        wanted = {**self._tls_options(), **(options or {})}
        query = f"?{urlencode(wanted)}" if wanted else ""
        return f"{'etcds' if self.tls else 'etcd'}://{user}{host}:{port}{query}"

    @property
    def peer(self) -> Port:
        """The port on which other members of its ensemble find it."""
        if self._peer is None:
            self._peer = Port()
        return self._peer

    @property
    def peer_url(self) -> str:
        """Where other members of its ensemble find it."""
        return f"http://{HOST}:{self.peer.number}"

    @property
    def certificates(self) -> Certificates:
        """Its authority, and the certificates of the server and of a client. Raises ServerFailed unless `tls`."""
        if self._certificates is None:
            raise ServerFailed("this server has no certificates: say EtcdServer(tls=True), and start it")
        return self._certificates

    # ------------------------------------------------------------------ asking it

    def ask(self, path: str, token: str | None = None, **message: Any) -> dict[str, Any]:
        """One request to its gateway: `server.ask("/v3/kv/range", key=text("locksmith/"))`.

        Not where it wants client certificates: its gateway is a client like any other, and has none of ours.

        Raises:
            ServerFailed: it refused the request.
            OSError: it could not be reached, or did not answer within 10 s.
        """
        if token is None and self._has_users:
            token = self.ask("/v3/auth/authenticate", "", name=ROOT, password=self.password)["token"]
        status, answer = self._request("POST", path, _ANSWER_SECONDS, json.dumps(message), token or "")
        if status != 200:
            raise ServerFailed(f"etcd refused {path}: {answer.get('error', answer)}")
        return dict(answer)

    def keys(self, prefix: str = "") -> list[str]:
        """All keys that begin with a prefix."""
        return [_plain(found["key"]) for found in self._range(prefix)]

    def leases(self) -> list[int]:
        """The leases that live."""
        return [int(found["ID"]) for found in self.ask("/v3/lease/leases").get("leases", [])]

    @property
    def is_leader(self) -> bool:
        """Whether it thinks so."""
        status = self.ask("/v3/maintenance/status")
        return bool(status.get("leader") == status["header"]["member_id"])

    def _range(self, prefix: str) -> list[dict[str, Any]]:
        first, end = (text(prefix), text(prefix[:-1] + chr(ord(prefix[-1]) + 1))) if prefix else (text("\0"),) * 2
        found: list[dict[str, Any]] = self.ask("/v3/kv/range", key=first, range_end=end).get("kvs", [])
        return found

    def _request(self, method: str, path: str, seconds: float, body: str = "", token: str = "") -> tuple[int, Any]:
        connection = self._connection(seconds)
        try:
            connection.request(method, path, body, {"Authorization": token} if token else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        except (http.client.HTTPException, ValueError) as stranger:
            raise OSError(f"not an answer of etcd: {stranger!r}") from stranger
        finally:
            connection.close()

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        if not self.tls:
            return http.client.HTTPConnection(*self.address, timeout=seconds)
        files = self.certificates
        context = ssl.create_default_context(cafile=str(files.authority))
        context.load_cert_chain(files.client, files.client_key)
        return http.client.HTTPSConnection(*self.address, timeout=seconds, context=context)

    def _answers(self) -> bool:
        status, health = self._request("GET", "/health", _PROBE_SECONDS)
        if status != 200 or health.get("health") != "true":
            return False
        if self.password is not None and not self._has_users:
            self._make_users()
        return True

    def _make_users(self) -> None:
        everyone = {ROOT: EtcdUser(self.password or "", ""), **self._users}
        for name, user in everyone.items():
            self.ask("/v3/auth/user/add", "", name=name, password=user.password)
            self.ask("/v3/auth/role/add", "", name=name)
            self.ask("/v3/auth/user/grant", "", user=name, role=name)
            if user.prefix:
                end = user.prefix[:-1] + chr(ord(user.prefix[-1]) + 1)
                permission = {"permType": "READWRITE", "key": text(user.prefix), "range_end": text(end)}
                self.ask("/v3/auth/role/grant", "", name=name, perm=permission)
        self.ask("/v3/auth/enable", "")
        self._has_users = True

    # ------------------------------------------------------------------ its configuration

    def join(self, name: str, ensemble: str) -> None:
        """Be a member, under this name, of the ensemble `name=peer-url,...`. Before the first start."""
        self.name, self._ensemble = name, ensemble

    def _prepare(self) -> None:
        if self.tls:
            self._certificates = make_certificates(self.folder / "tls")

    def _command(self, executable: Path) -> Sequence[str]:
        mine = f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"
        flags = {
            "name": self.name,
            "data-dir": str(self.folder / "data"),
            "listen-client-urls": mine,
            "advertise-client-urls": mine,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": self._ensemble or f"{self.name}={self.peer_url}",
            "initial-cluster-token": self._ensemble or str(self.peer.number),
            "heartbeat-interval": f"{self._heartbeat * 1000:.0f}",
            "election-timeout": f"{self._election * 1000:.0f}",
            "logger": "zap",
        }
        if self.tls:
            files = self.certificates
            flags |= {"cert-file": str(files.server), "key-file": str(files.server_key)}
            if self._client_certificates:
                flags |= {"trusted-ca-file": str(files.authority), "client-cert-auth": "true"}
        return [str(executable), *(f"--{name}={value}" for name, value in (flags | self._flags).items())]

    def _tls_options(self) -> dict[str, str]:
        if not self.tls:
            return {}
        files = self.certificates
        options = {"ssl_ca_certs": str(files.authority)}
        if self._client_certificates:
            options |= {"ssl_certfile": str(files.client), "ssl_keyfile": str(files.client_key)}
        return options

    def close(self) -> None:
        """See Server.close."""
        super().close()
        if self._peer is not None:
            self._peer.close()
            self._peer = None


class EtcdEnsemble:
    """Three members that elect a leader. Use it in a `with` statement.

    Args:
        heartbeat, election: see EtcdServer. Longer, because members on a busy machine are late.
    """

    def __init__(self, *, heartbeat: float = 0.06, election: float = 0.6) -> None:
        self.members = [EtcdServer(heartbeat=heartbeat, election=election) for _ in range(3)]
        names = {f"member{number}": member for number, member in enumerate(self.members)}
        all_of_them = ",".join(f"{name}={member.peer_url}" for name, member in names.items())
        for name, member in names.items():
            member.join(name, all_of_them)

    @property
    def url(self) -> str:
        """The URL with all members."""
        return "etcd://" + ",".join(f"{member.host}:{member.port}" for member in self.members)

    @property
    def leader(self) -> EtcdServer:
        """The member that leads. Raises ServerFailed where none does at the moment."""
        for member in self.members:
            if member.running and member.is_leader:
                return member
        raise ServerFailed("no member of the ensemble leads at the moment")

    def start(self) -> Self:
        """Start those that do not run; returns when each knows a leader. Raises as Server.start does."""
        # At once, because none answers before it has seen a second one.
        idle = [member for member in self.members if not member.running]
        with ThreadPoolExecutor(len(self.members)) as threads:
            started = [threads.submit(member.start) for member in idle]
        try:
            for member in started:
                member.result()
        except (ServerFailed, ServerMissing, OSError):
            self.close()
            raise
        return self

    def close(self) -> None:
        """End all of them and remove their data."""
        for member in self.members:
            member.close()

    def __enter__(self) -> Self:
        return self if all(member.running for member in self.members) else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def text(plain: str) -> str:
    """A key or value as the gateway wants it."""
    return b64encode(plain.encode()).decode("ascii")


def _plain(written: str) -> str:
    return b64decode(written).decode("utf-8", "replace")
