"""MariaDB and MySQL: leases in tables, judged by the server's clock, in stored procedures."""

from __future__ import annotations

from locksmith_sql.mysql.store import MySQLStore

__all__ = ["MySQLStore"]
