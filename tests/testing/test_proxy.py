"""The proxy: each way to break a connection does what it says, and only that."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import socketserver
import threading
import time

import pytest

from locksmith.testing.proxy import Proxy, ProxyFailed
from locksmith.testing.waiting import eventually


class LineServer(socketserver.ThreadingTCPServer):
    """Answers every line with `re:` and the line, remembers what it heard, and can speak without being asked."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), LineHandler)
        self.heard = queue.Queue()
        self.writers = []
        self.broken = threading.Event()

    def hear(self):
        return self.heard.get(timeout=5)


class LineHandler(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.writers.append(self.wfile)
        try:
            for line in self.rfile:
                self.server.heard.put(line)
                self.wfile.write(b"re:" + line)
            self.server.heard.put(b"")
        except ConnectionError:
            self.server.broken.set()

    def finish(self):
        with contextlib.suppress(ConnectionError):
            super().finish()


@pytest.fixture
def server():
    with LineServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server):
    with Proxy(server.server_address) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy):
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection(proxy.address, timeout=5))


def ask(connection, line=b"x\n"):
    connection.sendall(line)
    return connection.recv(100)


def hears_nothing(connection, seconds=0.05):
    connection.settimeout(seconds)
    with pytest.raises(TimeoutError):
        connection.recv(100)
    connection.settimeout(5)


def test_it_forwards(proxy, connect):
    first, second = connect(), connect()
    assert ask(first, b"one\n") == b"re:one\n"
    assert ask(second, b"two\n") == b"re:two\n"
    assert (proxy.accepted, proxy.connections, proxy.requests) == (2, 2, 2)
    first.close()
    eventually(lambda: proxy.connections == 1)


def test_much_passes_through_whole(connect):
    connection = connect()
    sent = b"%s\n" % (b"0123456789" * 500_000)
    thread = threading.Thread(target=connection.sendall, args=(sent,))
    thread.start()
    got = bytearray()
    while len(got) < len(sent) + 3:
        got += connection.recv(1 << 20)
    thread.join()
    assert got == b"re:" + sent


def test_the_end_of_a_client_reaches_the_server_and_back(server, connect):
    connection = connect()
    connection.sendall(b"last\n")
    connection.shutdown(socket.SHUT_WR)
    assert [server.hear(), server.hear()] == [b"last\n", b""]
    assert connection.recv(100) == b"re:last\n"
    assert connection.recv(100) == b""


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_a_delay_in_one_direction(proxy, connect, direction):
    connection = connect()
    ask(connection)
    getattr(proxy, direction).delay = 0.1
    before = time.monotonic()
    assert ask(connection) == b"re:x\n"
    assert time.monotonic() - before >= 0.1
    proxy.heal()
    assert ask(connection) == b"re:x\n"


def test_nothing_overtakes_when_a_delay_ends(server, proxy, connect):
    connection = connect()
    proxy.to_server.delay = 0.1
    connection.sendall(b"slow\n")
    eventually(lambda: proxy.requests == 1)
    proxy.to_server.delay = 0.0
    connection.sendall(b"quick\n")
    assert [server.hear(), server.hear()] == [b"slow\n", b"quick\n"]


def test_a_rate(proxy, connect):
    connection = connect()
    proxy.to_client.rate = 1000
    before = time.monotonic()
    connection.sendall(b"y" * 197 + b"\n")
    got = bytearray()
    while len(got) < 201:
        got += connection.recv(100)
    assert 0.19 <= time.monotonic() - before < 2


def test_a_stall_keeps_what_is_on_its_way(server, proxy, connect):
    connection = connect()
    proxy.to_server.stalled = True
    connection.sendall(b"kept\n")
    hears_nothing(connection)
    assert server.heard.empty()
    proxy.to_server.stalled = False
    assert connection.recv(100) == b"re:kept\n"


def test_a_black_hole_one_way_lets_the_server_act(server, proxy, connect):
    connection = connect()
    proxy.black_hole(to_server=False)
    connection.sendall(b"acted\n")
    assert server.hear() == b"acted\n"
    hears_nothing(connection)
    proxy.heal()
    assert connection.recv(100) == b"re:acted\n"


def test_in_a_black_hole_connections_open_and_hear_nothing(proxy, connect):
    proxy.black_hole()
    connection = connect()
    connection.sendall(b"x\n")
    hears_nothing(connection)
    proxy.heal()
    assert connection.recv(100) == b"re:x\n"


def test_a_drop_is_an_orderly_end(server, proxy, connect):
    connection = connect()
    ask(connection, b"x\n")
    proxy.drop()
    assert proxy.connections == 0
    assert connection.recv(100) == b""
    assert [server.hear(), server.hear()] == [b"x\n", b""]
    assert ask(connect()) == b"re:x\n"


def test_a_reset_is_not(server, proxy, connect):
    connection = connect()
    ask(connection)
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        connection.recv(100)
    assert server.broken.wait(5)


def test_refused_connections(proxy, connect):
    old = connect()
    proxy.refuse()
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect()
    assert ask(old) == b"re:x\n"
    proxy.accept()
    assert ask(connect()) == b"re:x\n"


def test_a_lost_reply_after_the_server_acted(server, proxy, connect):
    connection = connect()
    fault = proxy.lose_reply(2, matching=b"take")
    assert ask(connection, b"other\n") == b"re:other\n"
    assert ask(connection, b"take 1\n") == b"re:take 1\n"
    assert not fault.fired
    assert ask(connection, b"take 2\n") == b""
    fault.wait()
    assert [server.hear() for _ in range(4)] == [b"other\n", b"take 1\n", b"take 2\n", b""]
    assert ask(connect(), b"take 3\n") == b"re:take 3\n"


def test_a_lost_reply_with_a_reset(proxy, connect):
    connection = connect()
    proxy.lose_reply(reset=True)
    with pytest.raises(ConnectionResetError):
        ask(connection)


def test_a_lost_request_never_arrives(server, proxy, connect):
    connection = connect()
    fault = proxy.lose_request(matching=b"take")
    assert ask(connection, b"other\n") == b"re:other\n"
    with contextlib.suppress(ConnectionResetError):
        assert ask(connection, b"take\n") == b""
    fault.wait()
    assert [server.hear(), server.hear()] == [b"other\n", b""]


def test_faults_happen_in_the_order_in_which_they_were_asked_for(server, proxy, connect):
    faults = [proxy.lose_reply(), proxy.lose_request(), proxy.lose_reply()]
    for number, fault in enumerate(faults):
        assert ask(connect(), b"%d\n" % number) == b""
        assert [other.fired for other in faults[number:]] == [True] + [False] * len(faults[number + 1 :])
        fault.wait(0.1)
    assert ask(connect(), b"3\n") == b"re:3\n"
    heard = [server.hear() for _ in range(6)]
    assert sorted(heard) == [b"", b"", b"", b"0\n", b"2\n", b"3\n"]


def test_a_cancelled_fault_does_not_happen(proxy, connect):
    fault = proxy.lose_reply()
    fault.cancel()
    assert ask(connect()) == b"re:x\n"
    assert not fault.fired
    with pytest.raises(AssertionError, match="lose_reply did not happen"):
        fault.wait(0.01)


def test_a_held_request_arrives_after_its_sender_has_left(server, proxy, connect):
    connection = connect()
    held = proxy.hold_request(matching=b"take")
    ask(connection, b"before\n")
    connection.sendall(b"take\n")
    held.wait()
    connection.close()
    eventually(lambda: proxy.connections == 0)
    assert ask(connect(), b"undo\n") == b"re:undo\n"
    held.release()
    assert [server.hear() for _ in range(4)] == [b"before\n", b"undo\n", b"take\n", b""]


def test_what_follows_a_held_request_waits_behind_it(server, proxy, connect):
    connection = connect()
    held = proxy.hold_request()
    connection.sendall(b"first\n")
    held.wait()
    connection.sendall(b"second\n")
    eventually(lambda: proxy.requests == 2)
    assert server.heard.empty()
    held.release()
    assert [server.hear(), server.hear()] == [b"first\n", b"second\n"]
    assert ask(connection, b"third\n").startswith(b"re:")


def test_healing_releases_what_is_held(proxy, connect):
    connection = connect()
    held = proxy.hold_request()
    connection.sendall(b"x\n")
    held.wait()
    proxy.heal()
    assert connection.recv(100) == b"re:x\n"


def test_a_lost_push_leaves_the_connection(server, proxy, connect):
    connection = connect()
    fault = proxy.lose_push(matching=b"news")
    ask(connection, b"news\n")
    server.writers[0].write(b"news 1\n")
    fault.wait()
    server.writers[0].write(b"news 2\n")
    assert connection.recv(100) == b"news 2\n"


def test_another_server_behind_the_same_address(server, proxy, connect):
    ask(connect())
    with LineServer() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        proxy.target = other.server_address
        assert ask(connect(), b"moved\n") == b"re:moved\n"
        assert other.hear() == b"moved\n"
        other.shutdown()
        thread.join()


def test_a_dead_server_ends_connections(proxy, connect):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        proxy.target = gone.getsockname()
    with pytest.raises(ConnectionResetError):
        connect().recv(100)
    eventually(lambda: proxy.connections == 0)


def test_a_unix_socket_behind_it(start_redis):
    server = start_redis(unix_socket=True)
    with Proxy(str(server.unix_path)) as proxy, socket.create_connection(proxy.address, timeout=5) as connection:
        assert ask(connection, b"PING\r\n") == b"+PONG\r\n"


def test_urls_through_it(proxy):
    port = proxy.address[1]
    assert proxy.through("redis://u:p%40@localhost:1/3?a=b") == f"redis://u:p%40@127.0.0.1:{port}/3?a=b"
    assert proxy.through("redis://localhost") == f"redis://127.0.0.1:{port}"


def test_closing_ends_everything(server):
    proxy = Proxy(server.server_address)
    with socket.create_connection(proxy.address, timeout=5) as connection:
        ask(connection)
        proxy.close()
        proxy.close()
        assert connection.recv(100) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(proxy.address, timeout=5)
    with pytest.raises(ProxyFailed, match="closed"):
        proxy.drop()


def test_a_fault_counts_from_one(proxy):
    with pytest.raises(ValueError, match="from 1"):
        proxy.lose_reply(0)


def test_a_forked_child_leaves_it_alone(proxy, connect):
    connection = connect()
    child = os.fork()
    if child == 0:
        proxy.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert ask(connection) == b"re:x\n"


def test_it_does_not_burn_the_processor_while_a_sink_is_full(server, proxy, connect):
    connection = connect()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    line = b"z" * 1_000_000 + b"\n"
    thread = threading.Thread(target=connection.sendall, args=(line * 12,))
    thread.start()
    eventually(lambda: server.heard.qsize() >= 1)
    before = time.process_time()

    threading.Event().wait(0.3)  # nobody reads the replies meanwhile: both buffers stay full
    assert time.process_time() - before < 0.2
    got = 0
    while got < len(line) * 12 + 3 * 12:
        got += len(connection.recv(1 << 20))
    thread.join()
