"""Walks two million ids, of a range or of a table, and says how much its memory has grown: million.py KIND FOLDER."""

from __future__ import annotations

import resource
import sys

import sqlalchemy as sa

import locksmith
from locksmith.chunks import Chunk, ints
from locksmith_sql.pages import pages

COUNT = 2_000_000
kind, folder = sys.argv[1:]
engine = sa.create_engine(f"sqlite:///{folder}/rows.db")
table = sa.Table("rows", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
if kind == "pages":
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < :count) "
                "INSERT INTO rows SELECT id FROM n"
            ),
            {"count": COUNT},
        )
over = (
    ints(1, COUNT + 1, size=2000) if kind == "ints" else pages(sa.select(table.c.id), engine, key=table.c.id, size=2000)
)


@locksmith.chunked("million", over=over, store=f"sqlite:///{folder}/locks.db")
def walk(chunk: Chunk[int]) -> object:
    yield from chunk


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


count = total = before = 0
for number in walk():
    count += 1
    total += number
    if count == 30_000:
        before = peak()
assert (count, total) == (COUNT, COUNT * (COUNT + 1) // 2)
print(f"{before} MB, grown by {peak() - before} MB")
