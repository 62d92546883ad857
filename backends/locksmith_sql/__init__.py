"""Stores in SQL databases, through SQLAlchemy."""

from __future__ import annotations

from locksmith_sql.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
