"""The table of docs/guarantees.md, from what the stores declare: `python tests/support/guarantees.py` writes it."""

from __future__ import annotations

from pathlib import Path

from example_urls import SCHEMES, VARIANTS

import locksmith
from locksmith.store import Guarantee

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"
BEGIN = "<!-- written by tests/support/guarantees.py -->\n"
END = "<!-- end -->\n"


def promised(url: str) -> Guarantee:
    """What the store at this URL declares. Sends nothing."""
    with locksmith.connect(url) as client:
        return client.guarantees


def table() -> str:
    """A row for all schemes of one store that promise the same, and one for each variant."""
    rows: dict[tuple[str, Guarantee], list[str]] = {}
    for scheme, url in SCHEMES.items():
        with locksmith.connect(url) as client:
            store = type(client._engine.store).__name__
            rows.setdefault((store, client.guarantees), []).append(f"`{scheme}://`")
    lines = [_line(", ".join(schemes), flags) for (_, flags), schemes in rows.items()]
    lines += [_line(f"`{shown}`", promised(url)) for shown, url in VARIANTS.items()]
    names = [str(flag.name) for flag in Guarantee]
    return "\n".join([f"| | {' | '.join(names)} |", f"|---|{':-:|' * len(names)}", *lines]) + "\n"


def _line(what: str, flags: Guarantee) -> str:
    return f"| {what} | {' | '.join('yes' if flag in flags else '-' for flag in Guarantee)} |"


def page(text: str) -> str:
    """The page with the table as it is now."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{PAGE.name} has no line {BEGIN!r}"
    assert end, f"{PAGE.name} has no line {END!r}"
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
