"""A throwaway PostgreSQL server, and a PgBouncer in front of it."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, Literal
from urllib.parse import quote, urlencode

from locksmith.testing.servers.base import Server, ServerFailed
from locksmith.testing.servers.certificates import Certificates, make_certificates

SUPERUSER: Final = "tester"
DATABASE: Final = "postgres"
_SECONDS: Final = 60.0
_TUNED: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "''",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    # In a file of the data folder, so that nothing stays in the machine's shared memory after SIGKILL.
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "16MB",
    "fsync": "on",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "lc_messages": "C",
}


class PostgreSQLServer(Server):
    """A real PostgreSQL server on a loopback port. Its only user at first is the superuser `tester`.

    Args:
        password: what that user has to give (SCRAM).
        tls: accept connections with TLS alone; see `certificates`.
        config: further lines of postgresql.conf, such as `{"default_transaction_isolation": "serializable"}`.
        follows: be a hot standby, which only reads, of this running server.
    """

    program: ClassVar[str] = "postgresql"
    clash: ClassVar[str] = "could not create any TCP/IP sockets"
    refuses_root: ClassVar[bool] = True

    def __init__(
        self,
        *,
        password: str = "secret",  # noqa: S107 - of a throwaway server
        tls: bool = False,
        config: Mapping[str, str] | None = None,
        follows: PostgreSQLServer | None = None,
    ) -> None:
        super().__init__()
        self.password = password
        self.tls = tls
        self._config = dict(config or {})
        self._follows = follows
        self._certificates: Certificates | None = None

    @property
    def url(self) -> str:
        """The URL of the database `postgres` for the superuser."""
        return self.url_for()

    def url_for(
        self,
        *,
        username: str = SUPERUSER,
        password: str | None = None,
        database: str = DATABASE,
        address: tuple[str, int] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> str:
        """A URL of this server for another user, password, database or address (that of a proxy in front of it)."""
        host, port = address or self.address
        wanted = dict(options or {})
        if self.tls:
            wanted = {"sslmode": "verify-full", "sslrootcert": str(self.certificates.authority)} | wanted
        query = f"?{urlencode(wanted)}" if wanted else ""
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(username, safe='')}:{secret}@{host}:{port}/{quote(database, safe='')}{query}"

    @property
    def certificates(self) -> Certificates:
        """Its authority and certificates. Raises ServerFailed unless `tls`."""
        if self._certificates is None:
            raise ServerFailed("this server has no certificates: say PostgreSQLServer(tls=True), and start it")
        return self._certificates

    def sql(self, *statements: str, database: str = DATABASE) -> str:
        """What psql prints for these statements, unaligned and without headers, as the superuser.

        Raises:
            ServerFailed: one of them failed; the message says why.
        """
        words = [str(self._program("psql")), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]
        words += ["-h", self.host, "-p", str(self.port), "-U", SUPERUSER, "-d", database]
        for statement in statements:
            words += ["-c", statement]
        return self._run(words, environment={"PGPASSWORD": self.password}).strip()

    def kill(self) -> None:
        """End the server with SIGKILL, all its processes."""
        pid = self.pid
        children = _children(pid)
        super().kill()
        # They notice within moments; a new server would refuse to start while one of them lives.
        deadline = time.monotonic() + self.stop_seconds
        while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
            time.sleep(0.005)

    def pause(self) -> None:
        """Freeze the server and every process that serves a connection."""
        super().pause()  # first, so that nothing is started meanwhile
        self._signal_children(signal.SIGSTOP)

    def resume(self) -> None:
        """Let all of them go on."""
        self._signal_children(signal.SIGCONT)
        super().resume()

    # ------------------------------------------------------------------ its life

    def _signal_children(self, number: signal.Signals) -> None:
        for child in _children(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _prepare(self) -> None:
        if self.tls:
            self._certificates = make_certificates(self.folder / "tls")
            if self.user is not None:
                for path in [self.folder / "tls", *(self.folder / "tls").iterdir()]:
                    os.chown(path, pwd.getpwnam(self.user).pw_uid, -1)
            self._certificates.server_key.chmod(0o600)
        if self._follows is not None:
            self._copy(self._follows)
            return
        secret = self.folder / "password"
        secret.write_text(f"{self.password}\n", "utf-8")
        secret.chmod(0o644)
        words = [str(self._program("initdb")), "-D", str(self._data), "-U", SUPERUSER, "-A", "scram-sha-256"]
        words += ["--pwfile", str(secret), "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._run(words)
        secret.unlink()
        if self.tls:
            rules = self._data / "pg_hba.conf"
            rules.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n", "utf-8")

    def _copy(self, primary: PostgreSQLServer) -> None:
        words = [str(self._program("pg_basebackup")), "-D", str(self._data), "-R", "-X", "stream", "-c", "fast"]
        words += ["-h", primary.host, "-p", str(primary.port), "-U", SUPERUSER]
        self._run(words, environment={"PGPASSWORD": primary.password})
        self.password = primary.password

    def _command(self, executable: Path) -> Sequence[str]:
        settings = {**_TUNED, "port": str(self.port)}
        if self.tls:
            files = self.certificates
            settings |= {
                "ssl": "on",
                "ssl_ca_file": str(files.authority),
                "ssl_cert_file": str(files.server),
                "ssl_key_file": str(files.server_key),
            }
        settings |= self._config
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value.strip(chr(39))}")]
        return [str(executable), "-D", str(self._data), *options]

    def _answers(self) -> bool:
        # The server's own word: process id in the first line, state in the eighth.
        lines = (self._data / "postmaster.pid").read_text("utf-8", "replace").splitlines()
        if len(lines) < 8 or lines[0].strip() != str(self.pid) or lines[7].strip() not in {"ready", "standby"}:
            return False
        with socket.create_connection(self.address, timeout=1.0):
            return True

    def _end(self, number: signal.Signals) -> None:
        if self.running:
            self._signal_children(signal.SIGCONT)  # stopped ones would not end
        # SIGTERM would wait for every client to leave; an operator's "fast" shutdown is SIGINT.
        super()._end(signal.SIGINT if number is signal.SIGTERM else number)

    def _program(self, name: str) -> Path:
        if self._executable is None:
            raise ServerFailed("this server was never started")
        beside = self._executable.resolve().parent / name
        return beside if beside.exists() else self._executable.parent / name

    def _run(self, words: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**os.environ, "HOME": str(self.folder), **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            user=self.user,
            group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
            extra_groups=None if self.user is None else [],
        )
        if done.returncode:
            raise ServerFailed(f"{Path(words[0]).name} failed:\n{done.stderr}")
        return done.stdout


class PgBouncer(Server):
    """A PgBouncer in front of a server, with the same user and password.

    Args:
        server: the running server behind it.
        pool_mode: when a server connection goes back to the pool: after each transaction, or with the client.
        pool_size: how many server connections it may have.
    """

    program: ClassVar[str] = "pgbouncer"
    clash: ClassVar[str] = "cannot bind"
    refuses_root: ClassVar[bool] = True

    def __init__(
        self,
        server: PostgreSQLServer,
        *,
        pool_mode: Literal["transaction", "session"] = "transaction",
        pool_size: int = 5,
    ) -> None:
        super().__init__()
        self._server = server
        self._pool_mode = pool_mode
        self._pool_size = pool_size

    @property
    def url(self) -> str:
        """The URL of the database `postgres` of the server behind it."""
        return self._server.url_for(address=self.address)

    def _command(self, executable: Path) -> Sequence[str]:
        users = self.folder / "users.txt"
        users.write_text(f'"{SUPERUSER}" "{self._server.password}"\n', "utf-8")
        lines = {
            "listen_addr": self.host,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(users),
            "pool_mode": self._pool_mode,
            "default_pool_size": str(self._pool_size),
            "max_client_conn": "500",
        }
        path = self.folder / "pgbouncer.ini"
        place = f"host={self._server.host} port={self._server.port}"
        text = [f"[databases]\n* = {place}\n[pgbouncer]", *(f"{name} = {value}" for name, value in lines.items())]
        path.write_text("\n".join(text) + "\n", "utf-8")
        return [str(executable), str(path)]

    def _answers(self) -> bool:
        with socket.create_connection(self.address, timeout=1.0):
            return True

    def _end(self, number: signal.Signals) -> None:
        # SIGTERM is its immediate shutdown in some versions and a patient one in others; SIGINT may wait for clients.
        super()._end(signal.SIGKILL if number is signal.SIGTERM else number)


def _children(pid: int) -> list[int]:
    """The processes that this one started, where the system can tell."""
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    return []
