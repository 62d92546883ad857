"""PDFs come in, and each of their pages is to be rendered: a table says what is left, a scanner enqueues it.

    export LOCKSMITH_URL=redis://locks:6379/0 BROKER_URL=redis://locks:6379/1 PAGES_DB=/var/lib/pages.db
    celery -A pages worker                # as many as you like
    locksmith scan pages:unfinished -v    # on two machines: one walks, the other stands by
    python pages.py add report.pdf 12     # a PDF of twelve pages
    python pages.py show

Whatever is killed, and whenever: what is not done is still in the table, and comes back. A page is enqueued only while
it is neither queued nor running, so the queue holds each page once at most, however often the table is walked.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing

from celery import Celery
from celery.canvas import Signature

from locksmith.celery import Singleton, scan

TABLES = """
    CREATE TABLE IF NOT EXISTS pdfs (id INTEGER PRIMARY KEY, name TEXT, pages INTEGER, split INTEGER DEFAULT 0);
    CREATE TABLE IF NOT EXISTS pages (pdf INTEGER, number INTEGER, image TEXT, PRIMARY KEY (pdf, number));
    CREATE TABLE IF NOT EXISTS journal (what TEXT, pdf INTEGER, number INTEGER);
"""


def setting(name: str, seconds: float) -> float:
    """How long something takes; other than here in tests."""
    return float(os.environ.get(f"PAGES_{name}", seconds))


app = Celery("pages", broker=os.environ.get("BROKER_URL", "redis://localhost:6379/1"))
app.conf.update(
    task_default_queue="pages",
    worker_prefetch_multiplier=1,
    # A page that a dead worker was rendering comes back after the first, one that only waited there after the second.
    singleton_worker_ttl=setting("WORKER_TTL", 60),
    singleton_queue_ttl=setting("QUEUE_TTL", 600),
    broker_connection_retry_on_startup=True,
)


def connect() -> sqlite3.Connection:
    """The table; another database would do as well."""
    connection = sqlite3.connect(os.environ["PAGES_DB"], timeout=30, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(TABLES)
    return connection


@app.task(base=Singleton)
def split(pdf: int) -> None:
    """Write down which pages a PDF has."""
    with closing(connect()) as db:
        db.execute("BEGIN IMMEDIATE")
        # Looked at again, here: the walk has read the table some time ago.
        if db.execute("UPDATE pdfs SET split = 1 WHERE id = ? AND split = 0", [pdf]).rowcount:
            (pages,) = db.execute("SELECT pages FROM pdfs WHERE id = ?", [pdf]).fetchone()
            db.executemany("INSERT INTO pages VALUES (?, ?, NULL)", [(pdf, number + 1) for number in range(pages)])
        db.execute("COMMIT")


@app.task(base=Singleton)
def render(pdf: int, number: int) -> None:
    """Render a page: the work takes its time, its result is written in one step, and only where there is none yet."""
    with closing(connect()) as db:
        db.execute("INSERT INTO journal VALUES ('begun', ?, ?)", [pdf, number])
        time.sleep(setting("SECONDS", 0.2))
        db.execute("BEGIN IMMEDIATE")
        sql = "UPDATE pages SET image = 'done' WHERE pdf = ? AND number = ? AND image IS NULL"
        if db.execute(sql, [pdf, number]).rowcount:
            db.execute("INSERT INTO journal VALUES ('completed', ?, ?)", [pdf, number])
        db.execute("COMMIT")


@scan(
    every=float(os.environ.get("PAGES_EVERY", "10")), limit=1000, ttl=float(os.environ.get("PAGES_TTL", "10")), app=app
)
def unfinished() -> Iterator[Signature]:
    """What is left: PDFs that were not split, and pages without an image."""
    with closing(connect()) as db:
        for (pdf,) in db.execute("SELECT id FROM pdfs WHERE split = 0").fetchall():
            yield split.s(pdf)
        for pdf, number in db.execute(
            "SELECT pdf, number FROM pages WHERE image IS NULL ORDER BY pdf, number"
        ).fetchall():
            yield render.s(pdf, number)


def add(name: str, pages: int) -> None:
    """A PDF comes in: it is written down, and the scanner is woken. Lost wake-ups only cost time."""
    with closing(connect()) as db:
        db.execute("INSERT INTO pdfs (name, pages) VALUES (?, ?)", [name, pages])
    unfinished.wake()


def show() -> dict[str, int]:
    """How far it is."""
    with closing(connect()) as db:
        (pages,) = db.execute("SELECT coalesce(sum(pages), 0) FROM pdfs").fetchone()
        told = dict(db.execute("SELECT what, count(*) FROM journal GROUP BY what").fetchall())
    return {"pages": pages, "begun": 0, "completed": 0} | told


if __name__ == "__main__":
    if sys.argv[1:2] == ["add"]:
        add(sys.argv[2], int(sys.argv[3]))
    else:
        print(show())
