"""Stores in SQL databases, through SQLAlchemy."""

from __future__ import annotations

from locksmith_sql.engines import EngineStore
from locksmith_sql.sqlite.store import SQLiteStore

__all__ = ["EngineStore", "SQLiteStore"]
