"""Django: calls that wait for the end of a transaction."""

from __future__ import annotations

import sys

import pytest
from celerytasks import entry, messages, same, task
from django.apps import apps
from django.conf import settings
from django.db import transaction

from locksmith.celery import DuplicateTaskError
from locksmith.errors import ConfigurationError

pytestmark = pytest.mark.native_threads


@pytest.fixture(autouse=True)
def _database(tmp_path_factory):
    if not settings.configured:
        # A file, which is closed when it is told to be; one in memory is not.
        name = tmp_path_factory.mktemp("django") / "shop.db"
        settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(name)}})
        apps.populate([])
    yield
    transaction.get_connection().close()


def test_a_transaction_that_rolls_back_leaves_no_key(app):
    one = task(app, same, name="one")
    with transaction.atomic():
        one.delay_on_commit(1)
        assert entry(app, one.key_for(1)) is None
        transaction.set_rollback(True)
    assert entry(app, one.key_for(1)) is None
    first = one.delay(1)
    assert messages(app) == 1
    assert entry(app, one.key_for(1)).id == first.id


def test_a_transaction_that_commits_publishes_once(app):
    one = task(app, same, name="one")
    with transaction.atomic():
        one.delay_on_commit(1)
        one.apply_async_on_commit([1], countdown=1)
    assert messages(app) == 1
    assert entry(app, one.key_for(1)) is not None


def test_a_duplicate_is_told_when_the_transaction_ends(app):
    one = task(app, same, name="one", raise_on_duplicate=True)
    one.delay(1)
    with pytest.raises(DuplicateTaskError), transaction.atomic():
        one.delay_on_commit(1)


def test_without_django(app, monkeypatch):
    monkeypatch.setitem(sys.modules, "django.db", None)
    with pytest.raises(ConfigurationError, match="Django"):
        task(app, same, name="one").delay_on_commit(1)
