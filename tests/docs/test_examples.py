"""Each script of examples/ does what it says, run as its reader would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
pytestmark = pytest.mark.native_threads

SAYS = {
    "cron_on_many_hosts": "written under token",
    "fenced_write": "balance: 150",
    # How many overlap depends on the machine; that they are never more than four decides the exit status.
    "gpu_workers": "6 jobs done, at most ",
    "late_write": "the report: by the successor",
    "leader": "2 terms, one after the other: True",
    "stop_when_lost": "stopped: 'import' (token",
}


def run(script: Path, url: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env={**os.environ, "LOCKSMITH_URL": url},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    # The standard logger tells of a lost lease; that is no failure, a warning or a traceback would be.
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if not line.startswith("Lost:")]
    return done.stdout


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_on_sqlite(script, tmp_path):
    assert SAYS[script.stem] in run(script, f"sqlite:///{tmp_path / 'locks.db'}")


@pytest.mark.redis
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_on_redis(script, start_redis):
    assert SAYS[script.stem] in run(script, start_redis().url)


def test_the_second_host_finds_the_cron_job_done(tmp_path):
    script = next(path for path in EXAMPLES if path.stem == "cron_on_many_hosts")
    url = f"sqlite:///{tmp_path / 'locks.db'}"
    assert "written" in run(script, url)
    assert run(script, url) == "another host does it, or has\n"


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES} == set(SAYS)
