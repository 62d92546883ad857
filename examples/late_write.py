"""A process is stopped between its check and its write; when it goes on, the database refuses what it writes.

    LOCKSMITH_URL=redis://locks:6379/0 python late_write.py

The holder looks at its lease, which is fine, and is stopped with SIGSTOP before it writes: in life by a debugger, the
pause of a virtual machine, or a swapping host. Meanwhile its lease ends, and somebody else takes the name and writes.
From the holder's side nothing has happened. The guard compares fencing tokens in the transaction of the write.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa

import locksmith
from locksmith_sql.fencing import create_fences, guard

NAME = "report:daily"
TTL = 2.0


def write(engine: sa.Engine, body: str, fence: locksmith.Fence) -> None:
    """The guarded write: the check and the update are committed together, or not at all."""
    with engine.begin() as connection:
        guard(connection, fence)
        connection.execute(sa.text("UPDATE report SET body = :body"), {"body": body})


def hold_and_write(database: str) -> None:
    """The holder's part, in a process of its own."""
    engine = sa.create_engine(database)
    try:
        with locksmith.connect(os.environ["LOCKSMITH_URL"], ttl=TTL) as client, client.lock(NAME).acquire() as lease:
            lease.check()
            fence = locksmith.Fence.of(lease)
            print("my lease is fine, now I write", flush=True)
            sys.stdin.readline()  # here it is stopped
            write(engine, "by the late one", fence)
    except locksmith.StaleToken as refused:
        print("refused:", refused, flush=True)
    engine.dispose()


def take_over(holder: subprocess.Popen[str], engine: sa.Engine) -> str:
    """Stop the holder, write in its place, let it go on, and return what it says."""
    assert holder.stdout is not None
    print("holder:", holder.stdout.readline().strip())
    holder.send_signal(signal.SIGSTOP)
    os.waitpid(holder.pid, os.WUNTRACED)
    with locksmith.connect(os.environ["LOCKSMITH_URL"], ttl=30) as client, client.lock(NAME).acquire() as successor:
        write(engine, "by the successor", locksmith.Fence.of(successor))
        print("successor: written")
        holder.send_signal(signal.SIGCONT)
        said, _ = holder.communicate("\n", timeout=30)
    print("holder:", said.strip())
    return said


def main() -> int:
    """Start a holder, take over from it, and look whose report is there at the end."""
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{Path(folder) / 'reports.db'}"
        engine = sa.create_engine(database)
        create_fences(engine)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE report (body TEXT)"))
            connection.execute(sa.text("INSERT INTO report VALUES ('none yet')"))
        holder = subprocess.Popen(
            [sys.executable, __file__, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            said = take_over(holder, engine)
        finally:
            holder.kill()
        with engine.connect() as connection:
            body = connection.execute(sa.text("SELECT body FROM report")).scalar_one()
        engine.dispose()
    print("the report:", body)
    return 0 if body == "by the successor" and "refused" in said else 1


if __name__ == "__main__":
    sys.exit(hold_and_write(sys.argv[1]) if len(sys.argv) > 1 else main())
