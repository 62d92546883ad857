"""What a recipe needs of a store, asked when the recipe is built: nothing has been sent then."""

from __future__ import annotations

from locksmith.errors import GuaranteeMissing
from locksmith.store import Guarantee, Store


def require(store: Store, needed: Guarantee, who: str) -> None:
    """Raises GuaranteeMissing, with the store, the flags it lacks and who needs them."""
    if missing := needed & ~store.guarantees:
        lacks = " and ".join(str(flag.name) for flag in missing)
        raise GuaranteeMissing(f"{store.address} does not promise {lacks}, which {who} needs: use a store that does")
