"""Real beats: killed, stopped, ended. What arrived at the broker is compared with what was due."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

import locksmith
from locksmith.testing.servers import RedisServer
from locksmith.testing.waiting import eventually

SUPPORT = Path(__file__).resolve().parents[2] / "support"
SECOND = 1_000_000
pytestmark = [pytest.mark.redis, pytest.mark.slow]


class Troupe:
    """Beats of one schedule, and the queue that they publish to."""

    def __init__(self, folder: Path, server: RedisServer, stack: ExitStack) -> None:
        self.folder = folder
        self.store = f"sqlite:///{folder}/locks.db"
        self.queue = uuid.uuid4().hex
        self._broker = server.url
        self._stack = stack
        self._redis = redis.Redis.from_url(server.url)
        stack.callback(self._redis.close)
        stack.callback(self._redis.delete, self.queue)
        self.beats: list[subprocess.Popen[bytes]] = []

    def beat(self, entries: Sequence[str] = ("e", "f"), app: str = "beatcrew", **conf: Any) -> subprocess.Popen[bytes]:
        log = self.folder / f"beat{len(self.beats)}.log"
        settings = {"locksmith_url": self.store, "locksmith_beat_ttl": 3, **conf}
        environment = self.environment(entries, **settings)
        command = [sys.executable, "-m", "celery", "-A", app, "beat", "-S", "locksmith"]
        begun = subprocess.Popen(
            [*command, "-l", "INFO", "--pidfile", "", "--logfile", str(log)],
            env=environment, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._stack.callback(end, begun)
        self.beats.append(begun)
        return begun

    def environment(self, entries: Sequence[str] = (), **settings: Any) -> dict[str, str]:
        return {
            **os.environ, "BEAT_BROKER": self._broker, "BEAT_QUEUE": self.queue, "BEAT_CONF": json.dumps(settings),
            "BEAT_ENTRIES": json.dumps(entries), "BEAT_DATABASE": str(self.folder / "django.db"),
            "PYTHONPATH": os.pathsep.join([str(SUPPORT), *filter(None, sys.path)]),
        }  # fmt: skip

    def arrived(self) -> list[tuple[str, int, str]]:
        """The entry, the moment and the task id of each message, in the order in which they arrived."""
        raw: Any = self._redis.lrange(self.queue, 0, -1)
        told = [json.loads(message)["headers"] for message in reversed(raw)]
        return [(each["locksmith_fire"][1], each["locksmith_fire"][2], each["id"]) for each in told]

    def fires(self) -> list[tuple[str, int]]:
        return [(entry, moment) for entry, moment, _ in self.arrived()]

    def more(self, count: int) -> None:
        """Wait for so many further messages."""
        have = len(self.fires())
        eventually(lambda: len(self.fires()) >= have + count, within=40, what=f"{count} more fires than {have}")

    def leader(self, share: str = "") -> int | None:
        """The pid of the beat that leads."""
        with locksmith.connect(self.store) as client:
            leader = client.election(f"beat:beatcrew{share}").leader()
        return None if leader is None else leader.pid

    def led_by(self, wanted: Callable[[int | None], bool]) -> None:
        eventually(lambda: wanted(self.leader()), within=40, what="another leader")

    def whole(self, entries: Sequence[str] = ("e", "f")) -> None:
        """Nothing was missed, whoever led, and what came twice has one id: workers drop the second copy."""
        assert len({fire[2] for fire in self.arrived()}) == len(set(self.fires()))
        for entry in entries:
            moments = sorted({moment for name, moment in self.fires() if name == entry})
            assert {later - earlier for earlier, later in itertools.pairwise(moments)} == {SECOND}


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.wait()


@pytest.fixture
def troupe(tmp_path: Path, redis_server: RedisServer) -> Iterator[Troupe]:
    with ExitStack() as stack:
        yield Troupe(tmp_path, redis_server, stack)


def test_beats_that_are_killed_stopped_and_ended_miss_nothing_and_double_nothing(troupe: Troupe) -> None:
    first, second = troupe.beat(), troupe.beat()
    of = {first.pid: first, second.pid: second}
    troupe.more(4)

    leader = troupe.leader()
    assert leader in of
    of.pop(leader).kill()
    third = troupe.beat()
    of[third.pid] = third
    troupe.led_by(lambda pid: pid is not None and pid != leader)
    troupe.more(4)

    stopped = troupe.leader()
    assert stopped in of
    of[stopped].send_signal(signal.SIGSTOP)
    troupe.led_by(lambda pid: pid is not None and pid != stopped)
    troupe.more(4)
    of[stopped].send_signal(signal.SIGCONT)
    troupe.more(4)

    ended = troupe.leader()
    assert ended in of
    assert ended != stopped
    of[ended].terminate()
    troupe.led_by(lambda pid: pid is not None and pid != ended)
    troupe.more(4)
    assert of[ended].wait(10) == 0
    assert of[stopped].poll() is None  # it stands again, in the same process
    troupe.whole()


def test_a_standby_with_another_schedule_changes_nothing_before_it_leads(troupe: Troupe) -> None:
    """RedBeat writes its schedule before it has the lock (redbeat#198): the leader then sent what the standby had."""
    old = troupe.beat(["e", "f"])
    troupe.more(2)
    troupe.beat(["e", "g"])
    troupe.more(8)
    assert troupe.leader() == old.pid
    assert {name for name, _ in troupe.fires()} == {"e", "f"}
    old.terminate()
    eventually(lambda: "g" in {name for name, _ in troupe.fires()}, within=40, what="the new schedule")
    troupe.whole(["e"])


def test_active_beats_share_the_fires_with_no_leader(troupe: Troupe) -> None:
    beats = [troupe.beat(locksmith_beat_mode="active") for _ in range(2)]
    troupe.more(8)
    assert troupe.leader() is None
    beats[0].kill()
    troupe.more(8)
    troupe.whole()


def test_shares_are_led_by_different_beats_and_by_one_where_there_is_no_other(troupe: Troupe) -> None:
    entries = [f"e{number}" for number in range(6)]
    shares = ("#0", "#1")

    def leaders() -> list[int | None]:
        return [troupe.leader(share) for share in shares]

    first = troupe.beat(entries, locksmith_beat_shards=2)
    eventually(lambda: leaders() == [first.pid, first.pid], within=40, what="one leads both shares")
    second = troupe.beat(entries, locksmith_beat_shards=2)
    both = {first.pid, second.pid}
    eventually(lambda: set(leaders()) == both, within=40, what="each leads a share")
    troupe.more(12)
    second.kill()
    eventually(lambda: leaders() == [first.pid, first.pid], within=40, what="the other share is taken over")
    troupe.more(12)
    troupe.whole(entries)


def django(troupe: Troupe, *words: str) -> Any:
    """What somebody does to the tables of django-celery-beat, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "beatdjango", *words],
        env=troupe.environment(), cwd=troupe.folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_entries_of_django_are_fired_once_by_one_of_two_beats(troupe: Troupe) -> None:
    """django-celery-beat alone: as many copies as beats."""
    django(troupe, "create", "e", "f", "once", "off")
    conf = {"locksmith_beat_inner": "django_celery_beat.schedulers:DatabaseScheduler", "locksmith_beat_misfire": "all"}
    beats = [troupe.beat(app="beatdjango", **conf) for _ in range(2)]
    troupe.more(6)
    eventually(lambda: not django(troupe, "rows")["once"]["enabled"], within=40, what="the row is put out of action")
    leader = troupe.leader()
    of = {beat.pid: beat for beat in beats}
    assert leader in of
    of[leader].kill()
    troupe.led_by(lambda pid: pid is not None and pid != leader)
    django(troupe, "create", "g")  # the beat that leads finds it
    eventually(lambda: "g" in {name for name, _ in troupe.fires()}, within=40, what="the new entry")
    troupe.whole(["e", "f"])
    fires = set(troupe.fires())  # what a beat had sent when it was killed may come twice
    assert (sum(name == "once" for name, _ in fires), sum(name == "off" for name, _ in fires)) == (1, 0)
    rows = django(troupe, "rows")
    assert rows["once"] == {"enabled": False, "count": 0}
    assert rows["e"]["enabled"]
    assert rows["e"]["count"] >= 3
