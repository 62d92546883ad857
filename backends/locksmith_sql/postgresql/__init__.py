"""The store on PostgreSQL: `postgresql://`."""

from __future__ import annotations

from locksmith_sql.postgresql.store import PostgreSQLStore

__all__ = ["PostgreSQLStore"]
