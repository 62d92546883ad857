"""Nothing of a password is shown, whatever shape its URL has, nor what a server quotes of a request."""

from __future__ import annotations

import traceback

import pytest

import locksmith
from locksmith import redact
from locksmith.errors import ConfigurationError

URLS = (
    "redis://:12/34SECRET@host:6379/0",
    "redis://:/SECRET@host:6379/0",
    "redis://user:123/SECRET@host",
    "redis://user:?SECRET@host/0",
    "redis://user:#SECRET@host/0",
    "redis://:pa/ss?x=1&SECRET@host/0",
    "redis:SECRET@host",
    "user:SECRET@host:6379/0",
    "redis://u:SE[CRET/SECRET@host/0",
    "sqlite://u:1/SECRET@host/x",
)


@pytest.mark.parametrize("url", URLS)
def test_a_password_that_was_not_escaped_is_not_shown(url: str) -> None:
    """A / ? or # in it cuts it in two, and the rest was shown as a database, a path or an option."""
    with pytest.raises(ConfigurationError) as raised:
        locksmith.connect(url)
    shown = "".join(traceback.format_exception_only(raised.value))
    assert "SECRET" not in shown
    assert "SECRET" not in redact.url(url)
    if "://" in url:
        assert "SECRET" not in redact.text(f"cannot open {url!r}")


def test_an_at_in_its_place_is_no_mistake() -> None:
    for url in ("redis://:p@ss@host/0", "redis://host/0?password=p@ss", "sqlite:////tmp/a@b/x.db"):
        locksmith.connect(url).close()


def test_what_a_server_quotes_of_a_request_is_not_shown() -> None:
    said = "unknown command 'AUTH', with args beginning with: 'bob' 'SECRET' "
    assert redact.text(said) == "unknown command 'AUTH', with args beginning with: ***"
