"""The throwaway RabbitMQ server: it alone answers, on this machine alone, and nothing of it is left behind."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from locksmith.testing.servers import RabbitMQServer, base
from locksmith.testing.waiting import eventually

pytestmark = [pytest.mark.rabbitmq, pytest.mark.slow, pytest.mark.timeout(300)]


def test_its_port_was_taken_and_nothing_is_left_of_it(
    rabbitmq_server: RabbitMQServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that has the port answers, as RabbitMQ: it is not taken for the one that was started."""
    real = base.Port

    class Taken:
        number = rabbitmq_server.port

        def __init__(self) -> None:
            monkeypatch.setattr(base, "Port", real)

        def close(self) -> None:
            pass

    monkeypatch.setattr(base, "Port", Taken)
    with RabbitMQServer() as server:
        assert server.port != rabbitmq_server.port
        assert server.node != rabbitmq_server.node
        assert server._node_port is not None
        address, node = server.address, ("127.0.0.1", server._node_port.number)
        assert set(listening(server.pid)) == {address, node}
        folder = server.folder
        look_for_epmd(server.pid)
        assert server.pid in processes_of(folder)
        names = {*processes_of(folder).values(), *processes_of(rabbitmq_server.folder).values()}
        assert "epmd" not in names
        server.kill()
        eventually(lambda: not processes_of(folder), within=20, what="all its processes are gone")
    assert not folder.exists()
    for gone in (address, node):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(gone, timeout=5).close()


def look_for_epmd(pid: int) -> None:
    """What RabbitMQ does every minute (rabbit_nodes_common:ensure_epmd): a node that starts an epmd, and then ends."""
    words = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    command = ["erl", "-boot", "no_dot_erlang", "-sname", "epmd-starter-1", "-noinput", "-s", "erlang", "halt"]
    environment = dict(word.split("=", 1) for word in words)
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)


def processes_of(folder: Path) -> dict[int, str]:
    """Names of those that live in the environment of this server, whoever their parent is. A zombie has none."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = path.read_text("utf-8", "replace").split("\0")
            name = (path.parent / "comm").read_text().strip()
        except OSError:  # somebody else's, or gone
            continue
        if f"HOME={folder}" in words:
            found[int(path.parent.name)] = name
    return found


def listening(pid: int) -> list[tuple[str, int]]:
    """Where a process listens: https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html."""
    sockets = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                host, _, port = words[1].partition(":")
                packed = bytes.fromhex(host)[::-1] if table == "tcp" else bytes.fromhex(host)
                found.append(
                    (socket.inet_ntop(socket.AF_INET if table == "tcp" else socket.AF_INET6, packed), int(port, 16))
                )
    return found
