"""A throwaway MariaDB server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote, urlencode

from locksmith.testing.servers.base import Server, ServerFailed
from locksmith.testing.servers.certificates import Certificates, make_certificates
from locksmith.testing.servers.programs import ServerMissing

SUPERUSER: Final = "tester"
DATABASE: Final = "app"
_SECONDS: Final = 60.0
# As durable as a server is by default, and small.
_TUNED: Final[Mapping[str, str]] = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "ON",
    "max-connections": "300",
    "innodb-buffer-pool-size": "32M",
    "innodb-log-file-size": "16M",
    "innodb-flush-log-at-trx-commit": "1",
    "innodb-fast-shutdown": "1",
    "performance-schema": "OFF",
}
_PROTOCOL_10: Final = 10


class MariaDBServer(Server):
    """A real MariaDB server on a loopback port, with a database `app` and a superuser `tester` who has a password.

    Args:
        password: what that user has to give.
        tls: accept connections with TLS alone; see `certificates`.
        config: further options of the server, such as `{"collation-server": "utf8mb4_general_ci"}`.
    """

    program: ClassVar[str] = "mariadb"
    refuses_root: ClassVar[bool] = True

    def __init__(
        self,
        *,
        password: str = "secret",  # noqa: S107 - of a throwaway server
        tls: bool = False,
        config: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.password = password
        self.tls = tls
        self._config = dict(config or {})
        self._certificates: Certificates | None = None

    @property
    def url(self) -> str:
        """The URL of the database `app` for the superuser."""
        return self.url_for()

    def url_for(
        self,
        *,
        scheme: str = "mysql",
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
            wanted = {"ssl_ca": str(self.certificates.authority)} | wanted
        query = f"?{urlencode(wanted)}" if wanted else ""
        secret = quote(self.password if password is None else password, safe="")
        return f"{scheme}://{quote(username, safe='')}:{secret}@{host}:{port}/{quote(database, safe='')}{query}"

    @property
    def certificates(self) -> Certificates:
        """Its authority and certificates. Raises ServerFailed unless `tls`."""
        if self._certificates is None:
            raise ServerFailed("this server has no certificates: say MariaDBServer(tls=True), and start it")
        return self._certificates

    def sql(self, *statements: str, database: str = DATABASE) -> str:
        """What the mariadb program prints for these statements, tab-separated and without headers, as the superuser.

        Raises:
            ServerFailed: one of them failed; the message says why.
        """
        words = [str(self._program("mariadb")), "--no-defaults", "--batch", "--skip-column-names", "--protocol=tcp"]
        words += [f"--host={self.host}", f"--port={self.port}", f"--user={SUPERUSER}", f"--database={database}"]
        if self.tls:
            words.append(f"--ssl-ca={self.certificates.authority}")
        words.append(f"--execute={'; '.join(statements)}")
        return self._run(words, environment={"MYSQL_PWD": self.password}).strip()

    # ------------------------------------------------------------------ its life

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _prepare(self) -> None:
        if self.tls:
            self._certificates = make_certificates(self.folder / "tls")
            if self.user is not None:
                for path in [self.folder / "tls", *(self.folder / "tls").iterdir()]:
                    os.chown(path, pwd.getpwnam(self.user).pw_uid, -1)
        words = [str(self._program("mariadb-install-db")), "--no-defaults", f"--datadir={self._data}"]
        words += ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        # A server that starts sweeps the temporary tables of others out of a folder that it shares with them.
        self._run(words, environment={"TMPDIR": str(self.folder)})
        secret = self.password.replace("\\", "\\\\").replace("'", "\\'")
        lines = [
            f"CREATE USER IF NOT EXISTS {SUPERUSER}@'%' IDENTIFIED BY '{secret}';",
            f"GRANT ALL PRIVILEGES ON *.* TO {SUPERUSER}@'%' WITH GRANT OPTION;",
            f"CREATE DATABASE IF NOT EXISTS {DATABASE};",
        ]
        init = self.folder / "init.sql"
        init.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        if self.user is not None:
            shutil.chown(init, self.user)
        init.chmod(0o600)

    def _command(self, executable: Path) -> Sequence[str]:
        settings = {
            "datadir": str(self._data),
            "port": str(self.port),
            "socket": "mariadb.sock",  # in the data folder, and short: the path of a socket has 107 bytes
            "pid-file": str(self._pid_file),
            "init-file": str(self.folder / "init.sql"),
            "tmpdir": str(self.folder),
            **_TUNED,
        }
        if self.tls:
            files = self.certificates
            settings |= {
                "ssl-ca": str(files.authority),
                "ssl-cert": str(files.server),
                "ssl-key": str(files.server_key),
                "require-secure-transport": "ON",
            }
        settings |= self._config
        return [str(executable), "--no-defaults", *(f"--{name}={value}" for name, value in settings.items())]

    @property
    def _pid_file(self) -> Path:
        return self.folder / "mariadb.pid"

    def _answers(self) -> bool:
        # Asked for its process id, because a stranger may have taken the port: then ours is about to exit.
        if self._pid_file.read_text("utf-8").strip() != str(self.pid):
            return False
        with socket.create_connection(self.address, timeout=1.0) as connection:
            greeting = connection.recv(5)
        return len(greeting) == 5 and greeting[4] == _PROTOCOL_10

    def _program(self, name: str) -> Path:
        if self._executable is None:
            raise ServerFailed("this server was never started")
        beside = self._executable.resolve().parent / name
        found = str(beside) if beside.exists() else shutil.which(name)
        if found is None:
            raise ServerMissing(f"{name} is not installed: it comes in the same package as {self._executable.name}")
        return Path(found)

    def _run(self, words: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
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
            raise ServerFailed(f"{Path(words[0]).name} failed:\n{done.stdout}{done.stderr}")
        return done.stdout
