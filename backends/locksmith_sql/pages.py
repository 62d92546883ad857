"""Rows of a query in chunks: keyset pages for `locksmith.chunked`, each found by the key at which the last one ended.

A page is what lies after one key, up to another: `after < key <= upto`. It stays the same page however many rows are
inserted or deleted meanwhile, which an OFFSET does not, and the database finds it in the index instead of counting up
to it (Winand, "We need tool support for keyset pagination", 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import sqlalchemy as sa

from locksmith import positions
from locksmith.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Database: TypeAlias = "sa.Engine | Callable[[], Session]"
"""An engine, or what makes a session, such as a sessionmaker."""
_BATCH: Final = 1000
"""Rows that are fetched at once, where a driver can."""


@dataclass(frozen=True, slots=True)
class Pages:
    """The rows of a query in the order of a key, `size` at a time. See `pages`."""

    query: sa.Select[Any]
    database: Database
    key: tuple[sa.ColumnElement[Any], ...]
    size: int
    count: bool = False
    kind: str = "pages"

    def plan(self) -> Any:
        """JSON: the key's names, so that a job does not go on in another order. The rest is code."""
        return [str(column.name) if isinstance(column, sa.ColumnClause) else str(column) for column in self.key]

    def planned(self, plan: Any) -> Pages:
        """The same; only the order must be that of the beginning. Raises ConfigurationError."""
        if plan != self.plan():
            raise ConfigurationError(
                f"this job was begun in the order of {plan}, not of {self.plan()}: let it end first"
            )
        return self

    def first(self) -> Any:
        """Before the first row."""
        return None

    def after(self, place: Any) -> tuple[Any, Any, float] | None:
        """The page behind a key. One query, which reads `size` keys of the index and returns one row."""
        keys = self._ordered(*self.key).where(*self._behind(place)).limit(self.size).subquery()
        columns: list[Any] = list(keys.c)
        last: sa.Select[Any] = (
            sa.select(*columns, sa.select(sa.func.count()).select_from(keys).scalar_subquery())
            .order_by(*[column.desc() for column in columns])
            .limit(1)
        )
        with self._connection() as connection:
            row: Any = connection.execute(last).first()
        if row is None:
            return None
        upto, count = row[:-1], row[-1]
        if any(value is None for value in upto):
            raise ConfigurationError(f"the key {self.plan()} of a page is NULL: take columns that never are")
        return place, [positions.dump(value) for value in upto], float(count)

    def total(self) -> float | None:
        """How many rows there are, where that was asked for."""
        if not self.count:
            return None
        with self._connection() as connection:
            rows = self.query.order_by(None).subquery()
            return float(connection.execute(sa.select(sa.func.count()).select_from(rows)).scalar_one())

    def value(self, place: Any) -> Any:
        """The key: a value, or a tuple where it has several columns. None before the first row."""
        if place is None:
            return None
        values: Any = positions.load(place)
        return values[0] if len(self.key) == 1 else values

    def items(self, start: Any, end: Any) -> Iterator[Any]:
        """The rows of a page, as they are now, in order; entities alone where the query selects one entity."""
        found = self.query.order_by(None).order_by(*self.key).where(*self._behind(start), *self._up_to(end))
        single = len(self.query.column_descriptions) == 1
        with self._connection() as connection:
            rows = connection.execute(found.execution_options(yield_per=_BATCH))
            yield from rows.scalars() if single else rows

    def _ordered(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        narrow = self.query.with_only_columns(*columns, maintain_column_froms=True)
        return narrow.order_by(None).order_by(*self.key)

    def _behind(self, place: Any) -> list[sa.ColumnElement[bool]]:
        return [] if place is None else [_compared(self.key, positions.load(place), above=True)]

    def _up_to(self, place: Any) -> list[sa.ColumnElement[bool]]:
        return [_compared(self.key, positions.load(place), above=False)]

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        made = self.database.connect() if isinstance(self.database, sa.Engine) else self.database()
        with made as connection:
            yield connection


def pages(query: sa.Select[Any], database: Database, *, key: Any, size: int, count: bool = False) -> Pages:
    """For `locksmith.chunked(over=...)`: the rows of a query, `size` in each chunk, in the order of `key`.

    `key`: a column or several, whose values together are unique and never NULL, best with an index; numbers, texts,
    dates, moments, UUIDs or bytes. The query's own order is replaced by it; a LIMIT or OFFSET of its own is refused.
    `database`: an engine, or a callable that makes a session. `count`: have all rows counted once, when the job begins,
    so that its progress and end can be told.

    `chunk.start` and `chunk.end` are keys, `start < key <= end`; iterating over a chunk reads its rows, as they are
    then, in batches. Rows that are inserted behind the cursor while the job runs belong to it, others do not.
    Raises ConfigurationError.
    """
    columns = tuple(key) if isinstance(key, Sequence) and not isinstance(key, str) else (key,)
    made = [getattr(column, "__clause_element__", lambda column=column: column)() for column in columns]
    if not columns or not all(isinstance(column, sa.ColumnElement) for column in made):
        raise ConfigurationError(f"key= of pages is a column or several, not {key!r}")
    if not isinstance(query, sa.Select):
        raise ConfigurationError(f"pages are of a select(), not of {type(query).__name__}")
    if query._limit_clause is not None or query._offset_clause is not None:
        raise ConfigurationError("a query with a LIMIT or OFFSET of its own has no pages: take them out")
    if type(size) is not int or size < 1:
        raise ConfigurationError(f"size of pages is a whole number of rows, not {size!r}")
    return Pages(query, database, tuple(made), size, count)


def _compared(
    key: tuple[sa.ColumnElement[Any], ...], values: tuple[Any, ...], *, above: bool
) -> sa.ColumnElement[bool]:
    """Whether the key is above values, or not above them; column by column, since not every database compares rows."""
    column: Any = key[0]
    value = values[0]
    if len(key) == 1:
        last: sa.ColumnElement[bool] = column > value if above else column <= value
        return last
    beyond = column > value if above else column < value
    return sa.or_(beyond, sa.and_(column == value, _compared(key[1:], values[1:], above=above)))
