"""Forks beside requests and waiters: the child can use etcd, and the parent goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from locksmith.testing.servers import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.native_threads]

PROGRAM = """
import os, sys, threading, time
import locksmith

url, namespace = sys.argv[1:]
client = locksmith.connect(url, namespace=namespace, ttl=5)
held = client.lock("held").acquire()
stop = threading.Event()
turns = []

def busy(name):
    while not stop.is_set():
        with client.lock(name).acquire(wait=20):
            turns.append(name)

def wait():
    with client.lock("held").acquire(wait=60) as lease:
        turns.append("waited")

threads = [threading.Thread(target=busy, args=(f"b{number}",)) for number in range(3)]
threads.append(threading.Thread(target=wait))
for thread in threads:
    thread.start()
while len(turns) < 10 or not client.inspect("held").waiters:
    time.sleep(0.01)
for number in range(5):
    child = os.fork()
    if child == 0:
        try:
            assert not held.held
            assert client.lock("held").try_acquire() is None
            with client.lock("child").acquire(wait=20):
                pass
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "the child failed"
    assert held.held
before = len(turns)
while len(turns) < before + 10:
    time.sleep(0.01)
stop.set()
assert held.release()
for thread in threads:
    thread.join(20)
    assert not thread.is_alive()
assert "waited" in turns
client.close()
print("done")
"""


@pytest.mark.timeout(120)
def test_a_child_of_a_busy_process_can_use_etcd(etcd_server: EtcdServer, namespace: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, "utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(program), etcd_server.url, namespace]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_child_of_a_fork_beside_a_hanging_request_refuses_instead_of_hanging() -> None:
    code = """
import os, threading
from locksmith_etcd.forks import gate
from locksmith.errors import StoreUnavailable
inside, end = threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: gate.through(lambda: (inside.set(), end.wait(20))))
thread.start()
inside.wait(10)
child = os.fork()
if child == 0:
    try:
        gate.through(lambda: None)
    except StoreUnavailable as refused:
        os._exit(0 if "start it anew" in str(refused) else 2)
    os._exit(1)
assert os.waitpid(child, 0)[1] == 0
end.set()
thread.join()
assert gate.through(lambda: 7) == 7
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
