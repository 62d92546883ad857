"""The store on PostgreSQL: `postgresql://`."""

from __future__ import annotations

from locksmith.errors import DriverMissing

try:
    import psycopg  # noqa: F401 - to see whether it finds libpq
except ModuleNotFoundError:
    raise
except ImportError as missing:
    raise DriverMissing(f"psycopg does not find libpq ({missing}): pip install 'locksmith[postgresql]'") from missing

from locksmith_sql.postgresql.store import PostgreSQLStore

__all__ = ["PostgreSQLStore"]
