"""What a recipe needs of a store, asked when the recipe is built: nothing has been sent then."""

from __future__ import annotations

from locksmith import registry
from locksmith.errors import ConfigurationError, GuaranteeMissing
from locksmith.store import Guarantee, Store


def require(store: Store, needed: Guarantee, who: str) -> None:
    """Raises GuaranteeMissing, with the store, the flags it lacks, who needs them, and the stores that have them."""
    if missing := needed & ~store.guarantees:
        lacks = " and ".join(str(flag.name) for flag in missing)
        raise GuaranteeMissing(
            f"{store.address} does not promise {lacks}, which {who} needs: use a store that does{_able(needed)}"
        )


def _able(needed: Guarantee) -> str:
    try:
        known = registry.known()
    except ConfigurationError:  # somebody's broken entry point, which is not what was asked about
        return ""
    able = [f"{each.scheme}://" for each in known if each.store and needed in each.store.guarantees]
    return f", such as {', '.join(able)}" if able else ""
