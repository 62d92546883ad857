"""Real processes that hold and wait, do as they are told, and can be killed, stopped and forked.

    with Worker("redis://localhost", namespace="t", runtime="asyncio") as worker:
        token = worker.ask("acquire", name="x", ttl=1.0)
        worker.send_signal(signal.SIGSTOP)

A worker reads one JSON request a line and answers with one line; `ask` raises WorkerError with the name of what was
raised there.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Final, Self

from locksmith.errors import RateLimited
from locksmith.testing import nursery

ANSWER_SECONDS: Final = 30.0


class WorkerError(AssertionError):
    """What was asked of a worker raised there; `name` is the class of the exception."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class Worker:
    """A Python process with one client.

    Args:
        url: the store.
        runtime: "blocking" or "asyncio".
        settings: for `connect`.
    """

    def __init__(self, url: str, *, runtime: str = "blocking", **settings: Any) -> None:
        setup = json.dumps({"url": url, "runtime": runtime, "settings": settings})
        # The same packages as here, wherever they come from.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = _start(setup, environment)
        self._answers: SimpleQueue[str] = SimpleQueue()
        self._complaints: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, self._answers.put), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stderr, self._complaints.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self.answer()  # it says when it is there
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, verb: str, **arguments: Any) -> Any:
        """Have it do something, and wait for the answer. Raises WorkerError."""
        self.tell(verb, **arguments)
        return self.answer()

    def tell(self, verb: str, **arguments: Any) -> None:
        """Have it do something; `answer` waits for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"verb": verb, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self, within: float = ANSWER_SECONDS) -> Any:
        """The answer to what was told. Raises WorkerError, or AssertionError where none came in time."""
        try:
            line = self._answers.get(timeout=within)
        except Empty:
            raise AssertionError(f"worker {self.pid} did not answer within {within:g} s\n{self.complaints()}") from None
        if not line:
            raise AssertionError(f"worker {self.pid} ended: {self._process.wait()}\n{self.complaints()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"], answer["text"])
        return answer["ok"]

    def answered(self) -> bool:
        """Whether an answer is waiting."""
        return not self._answers.empty()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; after SIGSTOP, returns when it has stopped."""
        self._process.send_signal(number)
        if number is signal.SIGSTOP:
            while _state(self.pid) not in ("T", "t", ""):
                time.sleep(0.001)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._process.kill()
        self._process.wait(10)

    def wait(self, within: float = 10.0) -> int:
        """Its exit status, after at most `within` seconds. Raises subprocess.TimeoutExpired."""
        status = self._process.wait(within)
        for reader in self._readers:
            reader.join(5)
        return status

    def complaints(self) -> str:
        """What it wrote to its standard error."""
        return "".join(self._complaints)

    def close(self) -> None:
        """End it, whatever state it is in."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait(10)
        for reader in self._readers:
            reader.join(5)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @staticmethod
    def _read(pipe: Any, put: Any) -> None:
        for line in pipe:
            put(line)
        put("")


def _start(setup: str, environment: dict[str, str]) -> subprocess.Popen[str] | nursery.Nursling:
    # Forking beside threads is what some cases are about.
    options = ["-W", "ignore::DeprecationWarning"]
    if nursery.possible():
        return nursery.Nursling(nursery.nursery(options, environment), setup)
    return subprocess.Popen(
        [sys.executable, *options, "-m", __name__, setup],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return ""  # no /proc: a signal is on its way, which is all that can be said


# ------------------------------------------------------------------------------------------------ in the worker


def add_one(counter: Path, token: int) -> None:
    """Add one to the number in a file, which nothing but a lock protects, and note the token in another file."""
    before = int(counter.read_text("utf-8"))
    with counter.with_suffix(".tokens").open("a", encoding="utf-8") as tokens:
        tokens.write(f"{token}\n")
    time.sleep(0.0002)  # for others to come in between
    counter.write_text(str(before + 1), "utf-8")


def note(path: str, what: str, token: int, asked: float | None = None) -> None:
    """Add a line to a file: what, the token, our process id, when that was asked, and the time after the answer."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    with Path(path).open("a", encoding="utf-8") as notes:
        notes.write(f"{what} {token} {os.getpid()} {now if asked is None else asked:.6f} {now:.6f}\n")


class _End(Exception):
    """The worker leaves its loop and ends as a program does."""


class _Serving:
    """What a worker can do. Leases are kept by name."""

    def __init__(self, face: Any, url: str, settings: dict[str, Any]) -> None:
        self.face = face
        self.client = face.connect(url, **settings)
        self.leases: dict[str, Any] = {}

    async def acquire(self, name: str, ttl: float | None = None, **settings: Any) -> int:
        lease = await self.client.lock(name, ttl=ttl).acquire(**settings)
        self.leases[name] = lease
        return int(lease.token)

    async def try_acquire(self, name: str) -> int | None:
        lease = await self.client.lock(name).try_acquire()
        if lease is None:
            return None
        self.leases[name] = lease
        return int(lease.token)

    async def look(self, name: str) -> dict[str, Any]:
        lease = self.leases[name]
        return {"held": lease.held, "remaining": lease.remaining(), "lost": lease.lost.is_set()}

    async def check(self, name: str) -> None:
        self.leases[name].check()

    async def release(self, name: str) -> bool:
        return bool(await self.leases[name].release())

    async def count(self, name: str, path: str, times: int, wait: bool) -> int:
        """Add to the number in a file so many times, each time under the lock."""
        lock = self.client.lock(name)
        done = 0
        while done < times:
            lease = await lock.acquire(wait=60) if wait else await lock.try_acquire()
            if lease is None:
                await self.face.sleep(0.001)
                continue
            async with lease:
                await self.face.sleep(0)
                add_one(Path(path), lease.token)
            done += 1
        return done

    async def acquire_all(self, names: list[str], ttl: float | None = None, **settings: Any) -> dict[str, int]:
        """Several names at once; released under the first one's name."""
        lease = await self.client.lock_all(names, ttl=ttl).acquire(**settings)
        self.leases[names[0]] = lease
        return dict(lease.tokens)

    async def count_all(self, names: list[str], folder: str, times: int) -> int:
        """Add so many times to the number in each name's file, under all the names."""
        lock = self.client.lock_all(names)
        for _ in range(times):
            async with lock.acquire(wait=60) as lease:
                await self.face.sleep(0)
                for name, token in lease.tokens.items():
                    add_one(Path(folder) / name, token)
        return times

    async def fork(self, name: str, how: str) -> dict[str, Any]:
        """Fork while holding; the child reports what it sees, does something, and ends."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            self._in_child(name, how, writer)
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as pipe:
            report: dict[str, Any] = json.loads(await self.face.call(pipe.read))
        _, status = await self.face.call(lambda: os.waitpid(child, 0))
        return report | {"status": os.waitstatus_to_exitcode(status)}

    async def pace(self, name: str, rates: list[str], burst: int, seconds: float, ahead: int) -> list[int]:
        """The slots, by the store's clock, that are taken in so many seconds: some ahead, and then one waited for.

        With `ahead` 0 none is waited for: it is tried without a pause.
        """
        limit = self.client.rate_limit(name, *rates, burst=burst)
        until = time.monotonic() + seconds
        slots: list[int] = []
        while time.monotonic() < until:
            if ahead:
                slots.extend([(await limit.reserve()).at for _ in range(ahead)])
                slots.append((await limit.take()).at)
            else:
                with contextlib.suppress(RateLimited):
                    slots.append((await limit.take(wait=0)).at)
        return slots

    async def leave(self) -> None:
        """End as a program does that never gave anything back."""
        raise _End

    async def wait_beside(self, name: str) -> None:
        """Wait for a name on a thread or task beside, and go on."""
        self.face.start(self.acquire(name))

    async def stand(self, name: str, ttl: float, path: str) -> None:
        """Stand for election beside, for ever, and note in a file what this process is told and believes, and when."""
        election = self.client.election(name, ttl=ttl)
        election.on_elected(lambda lease: note(path, "elected", lease.token))
        election.on_lost(lambda lease: note(path, "lost", lease.token))

        async def lead(lease: Any) -> None:
            while True:
                asked = time.clock_gettime(time.CLOCK_BOOTTIME)
                lease.check()
                note(path, "believes", lease.token, asked)
                await self.face.sleep(0.005)

        self.face.start(election.run(lead, value=os.getpid()))

    def _in_child(self, name: str, how: str, writer: int) -> None:
        try:
            report = self.face.run(self._child(name, how))
        except BaseException as error:  # noqa: BLE001 - it is reported
            report = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(writer, "w", encoding="utf-8") as pipe:
            json.dump(report, pipe)
        if how == "exit" and self.face.name == "blocking":
            raise SystemExit(0)  # atexit, destructors and all
        os._exit(0)

    async def _child(self, name: str, how: str) -> dict[str, Any]:
        # `face.run` closes what was opened at its end: the child must not close the client unless that is the point.
        self.face._opened.clear()
        lease = self.leases[name]
        report: dict[str, Any] = {"held": lease.held, "remaining": lease.remaining(), "released": None}
        if how == "release":
            try:
                report["released"] = await lease.release()
            except Exception as error:  # noqa: BLE001 - it is reported
                report["released"] = type(error).__name__
        elif how == "close":
            await self.client.close()
        elif how == "collect":
            del lease, self.leases, self.client
            gc.collect()
        elif how == "acquire":
            parents = await self.client.lock(name).try_acquire()
            own = await self.client.lock("own", ttl=0.6).acquire(wait=10)
            await self.face.sleep(1.0)  # its own keeper renews it
            report |= {"parents": parents is not None, "own": own.held, "own_released": await own.release()}
        return report


async def _serve(face: Any, setup: dict[str, Any]) -> None:
    serving = _Serving(face, setup["url"], setup["settings"])
    _say({"ok": "ready"})
    while line := await face.call(sys.stdin.readline):
        request = json.loads(line)
        verb = request.pop("verb")
        try:
            answer = {"ok": await getattr(serving, verb)(**request)}
        except _End:
            face._opened.clear()
            return
        except Exception as error:  # noqa: BLE001 - it is reported
            answer = {"error": type(error).__name__, "text": str(error)}
        _say(answer)


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def serve(setup: str) -> None:
    """Serve one Worker until it hangs up."""
    from locksmith.testing.contract.faces import FACES

    # A shell has what it starts in the background ignore Ctrl-C, and a test suite hands that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    wanted = json.loads(setup)
    face = FACES[wanted["runtime"]]()
    with contextlib.suppress(KeyboardInterrupt):
        face.run(_serve(face, wanted))


if __name__ == "__main__":
    serve(sys.argv[1])
