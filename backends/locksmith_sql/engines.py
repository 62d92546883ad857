"""Which store speaks to the database of a SQLAlchemy engine: found by its dialect, loaded when needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from locksmith.errors import ConfigurationError, DriverMissing
from locksmith.runtime import Runtime
from locksmith.store import Store

# By dialect: module, class, and the extra that brings its driver.
_STORES: Final = {
    "sqlite": ("locksmith_sql.sqlite.store", "SQLiteStore", ""),
    "postgresql": ("locksmith_sql.postgresql", "PostgreSQLStore", "postgresql"),
    "mysql": ("locksmith_sql.mysql", "MySQLStore", "mysql"),
    "mariadb": ("locksmith_sql.mysql", "MySQLStore", "mysql"),
}


class EngineStore(Store):
    """What `connect` asks for the store of an Engine or AsyncEngine. Never made itself."""

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Any:
        """See Store.from_client: a store of the class that fits. Raises ConfigurationError, DriverMissing."""
        dialect = getattr(getattr(client, "dialect", None), "name", None)
        if dialect is None:
            raise ConfigurationError(f"pass an Engine or an AsyncEngine of SQLAlchemy, not a {type(client).__name__}")
        if dialect not in _STORES:
            raise ConfigurationError(f"no store for {dialect}; there are {', '.join(_STORES)}")
        module, name, extra = _STORES[dialect]
        try:
            store: type[Store] = getattr(import_module(module), name)
        except ModuleNotFoundError as missing:
            raise DriverMissing(
                f"{dialect} needs {missing.name}, which is not installed: pip install 'locksmith[{extra}]'"
            ) from missing
        return store.from_client(client, runtime=runtime, namespace=namespace)
