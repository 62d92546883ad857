"""Guards in SQLite's transactions: as Python's driver begins them, and as SQLite means them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fencecases import GuardCases

from locksmith.errors import ConfigurationError
from locksmith_sql.fencing import create_fences

# Waiting for a writer is the C library's, which stops all greenlets, the writer's too.
pytestmark = pytest.mark.native_threads


def whole_transactions(engine: sa.Engine) -> None:
    """BEGIN where SQLAlchemy begins, so that reads are in the transaction as well: SQLAlchemy's recipe for SQLite."""

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")


class TestGuards(GuardCases):
    @pytest.fixture(params=["the driver's", "deferred, WAL"])
    def engine(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
        made = sa.create_engine(f"sqlite:///{tmp_path / 'work.db'}", connect_args={"timeout": 40.0})
        if request.param == "deferred, WAL":
            whole_transactions(made)
        yield made
        made.dispose()


def test_a_dialect_without_a_guard_is_refused() -> None:
    stranger: Any = sa.create_mock_engine("oracle://", executor=lambda *_: None)
    with pytest.raises(ConfigurationError, match="no guard for oracle; there are guards for postgresql"):
        create_fences(stranger)
