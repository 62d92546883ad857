"""The throwaway servers: what tests command really happens to a real process, and nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from locksmith.testing.servers import RedisReplyError, RedisServer, ServerFailed, base
from locksmith.testing.waiting import eventually


def test_a_server_answers_and_is_gone_after_close(start_redis):
    server = start_redis()
    folder, address = server.folder, server.address
    assert server.command("PING") == "PONG"
    assert server.url == f"redis://127.0.0.1:{server.port}/0"
    server.close()
    server.close()
    assert not server.running
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=1)


def test_a_restart_keeps_port_and_data(start_redis):
    server = start_redis()
    port, pid = server.port, server.pid
    server.command("SET", "key", "värde")
    server.restart()
    assert (server.port, server.command("GET", "key")) == (port, "värde")
    assert server.pid != pid


def test_a_kill_loses_what_was_not_on_disk(start_redis):
    server = start_redis()
    server.command("SET", "key", "kept")
    server.restart()
    server.command("SET", "key", "lost")
    server.kill()
    assert not server.running
    server.start()
    assert server.command("GET", "key") == "kept"


def test_an_append_only_server_survives_a_kill(start_redis):
    server = start_redis(appendonly=True, config={"appendfsync": "always"})
    server.command("SET", "key", "kept")
    server.kill()
    server.start()
    assert server.command("GET", "key") == "kept"


def test_a_paused_server_answers_when_it_is_resumed(start_redis):
    server = start_redis()
    with socket.create_connection(server.address, timeout=0.05) as connection:
        server.pause()
        assert server.running
        connection.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(100)
        server.resume()
        connection.settimeout(5)
        assert connection.recv(100) == b"+PONG\r\n"


def test_a_paused_server_can_be_stopped(start_redis):
    server = start_redis()
    server.pause()
    server.stop()
    assert not server.running


def test_users_and_passwords(start_redis):
    password = 'p" \\x41 wörd'
    server = start_redis(password=password, users={"app": "on >secret ~app:* &* +get"})
    assert server.command("PING") == "PONG"
    assert server.url_for(username="app", password="s:/@", db=3).startswith("redis://app:s%3A%2F%40@127.0.0.1:")
    assert "app" in str(server.command("ACL", "USERS"))
    with socket.create_connection(server.address, timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(100).startswith(b"-NOAUTH")
    assert password not in server.url


def test_a_server_that_locks_the_default_user_out_is_ready(start_redis):
    server = start_redis(users={"default": "off", "app": "on >secret ~* &* +@all"})
    with pytest.raises(RedisReplyError, match="NOAUTH"):
        server.command("PING")


def test_tls_requires_the_certificate_of_a_client(start_redis):
    server = start_redis(tls=True)
    assert server.command("PING") == "PONG"
    assert server.url.startswith("rediss://")
    assert "ssl_certfile" in server.url
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        _ping_without_certificate(server)


def test_tls_without_certificates_of_clients(start_redis):
    server = start_redis(tls=True, client_certificates="none")
    assert "ssl_certfile" not in server.url
    assert _ping_without_certificate(server) == b"+PONG\r\n"


def _ping_without_certificate(server):
    context = ssl.create_default_context(cafile=str(server.certificates.authority))
    with (
        socket.create_connection(server.address, timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"PING\r\n")
        return connection.recv(100)


def test_a_unix_socket(start_redis):
    server = start_redis(unix_socket=True)
    assert server.unix_url == f"redis+unix://{server.unix_path}?db=0"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.unix_path))
        connection.sendall(b"PING\r\n")
        assert connection.recv(100) == b"+PONG\r\n"


def test_what_was_not_asked_for_says_how_to_ask(start_redis):
    server = start_redis()
    with pytest.raises(ServerFailed, match="unix_socket=True"):
        _ = server.unix_path
    with pytest.raises(ServerFailed, match="tls=True"):
        _ = server.certificates
    with pytest.raises(ServerFailed, match="runs already"):
        server.start()


def test_before_the_start_there_is_nothing():
    server = RedisServer()
    assert "never started" in repr(server)
    for question in ("port", "folder", "pid"):
        with pytest.raises(ServerFailed):
            getattr(server, question)
    server.close()


def test_replies_of_every_kind(start_redis):
    server = start_redis()
    assert server.command("GET", "nothing") is None
    assert server.command("EVAL", "return {1, {'two', false}, {}}", 0) == [1, ["two", None], []]
    with pytest.raises(RedisReplyError, match="unknown command"):
        server.command("NONSENSE")


def test_a_start_that_fails_shows_the_log_and_leaves_no_folder(start_redis, tmp_path, monkeypatch):
    monkeypatch.setattr(base.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ServerFailed, match="nonsense"):
        start_redis(config={"nonsense": "1"})
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_was_taken_is_not_the_end(start_redis, redis_server, monkeypatch):
    real = base.Port

    class Clashing:
        """The port of a server that answers, so that an answer alone proves nothing."""

        number = redis_server.port

        def __init__(self):
            monkeypatch.setattr(base, "Port", real)

        def close(self):
            pass

    monkeypatch.setattr(base, "Port", Clashing)
    server = start_redis()
    assert server.port != redis_server.port
    assert f"process_id:{server.pid}" in server.command("INFO", "server")


ORPHAN = """
import os, signal
from locksmith.testing.servers import RedisServer
server = RedisServer().start()
print(server.pid, server.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_dies_with_the_process_that_started_it(redis_server):
    done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid, folder = done.stdout.split()
    eventually(lambda: not _exists(int(pid)), what="the server is gone")
    eventually(lambda: not Path(folder).exists(), what="its folder is gone")


def _exists(pid: int) -> bool:
    """A zombie counts as gone: who adopts it may take its time to reap it, or never do."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_forked_child_closes_nothing(start_redis):
    server = start_redis()
    child = os.fork()
    if child == 0:
        server.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert server.command("PING") == "PONG"
    assert server.folder.exists()
