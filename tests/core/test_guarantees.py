"""What stores declare is what `require` enforces, for every scheme, and what the documentation says."""

from __future__ import annotations

import guarantees
import pytest
from example_urls import SCHEMES, VARIANTS, registered

import locksmith
from locksmith.errors import GuaranteeMissing
from locksmith.store import Guarantee

URLS = [*SCHEMES.values(), *VARIANTS.values()]


def test_every_scheme_is_looked_at() -> None:
    assert set(SCHEMES) == registered()


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("flag", list(Guarantee), ids=lambda flag: str(flag.name).lower())
def test_what_is_required_is_promised_or_refused(url: str, flag: Guarantee) -> None:
    """Nothing answers at these addresses: what is refused is refused before anything is sent."""
    if flag in guarantees.promised(url):
        for wanted in (flag, str(flag.name).lower()):
            with locksmith.connect(url, require=wanted) as client:
                assert flag in client.guarantees
    else:
        with pytest.raises(GuaranteeMissing, match=str(flag.name)):
            locksmith.connect(url, require=flag)


def test_all_that_is_missing_is_named() -> None:
    with pytest.raises(GuaranteeMissing, match="DURABLE and SURVIVES_FAILOVER"):
        locksmith.connect("memory://", require=["survives_failover", "fifo", "durable"])


@pytest.mark.asyncio
@pytest.mark.parametrize("url", URLS)
async def test_the_asyncio_face_refuses_the_same(url: str) -> None:
    import locksmith.aio

    flags = guarantees.promised(url)
    async with locksmith.aio.connect(url, require=flags) as client:
        assert client.guarantees == flags
    for flag in ~flags:
        with pytest.raises(GuaranteeMissing):
            locksmith.aio.connect(url, require=flag)


def test_the_table_in_the_documentation_is_what_the_stores_declare() -> None:
    text = guarantees.PAGE.read_text("utf-8")
    assert guarantees.page(text) == text, "run `python tests/support/guarantees.py`"
