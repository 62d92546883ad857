"""The documentation says what is true: its code runs, its links lead somewhere, its commands are those of CI.

A block marked ```python no-run: <reason>` is left out. Blocks of one page share one namespace and run in order. Where a
page connects to redis://localhost:6379, a throwaway server is meant.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from example_urls import registered

import locksmith

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)?([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
EXAMPLE_REDIS = "redis://localhost:6379/0"
pytestmark = pytest.mark.native_threads


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_blocks(page: Path) -> Iterator[tuple[int, str]]:
    """The Python blocks of a page that are to run, each with the number of its first line."""
    text = page.read_text("utf-8")
    for found in FENCE.finditer(text):
        language, marks, code = found.groups()
        if language != "python":
            continue
        if marks.strip():
            assert re.fullmatch(r"no-run: \S.*", marks.strip()), f"{name_of(page)}: what does {marks!r} mean?"
            continue
        yield text.count("\n", 0, found.start(3)) + 1, code


WITH_CODE = [page for page in PAGES if any(code_blocks(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_code_runs(page: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOCKSMITH_URL", raising=False)
    names: dict[str, Any] = {"__name__": "__docs__"}
    blocks = [(line, replace_servers(code, request)) for line, code in code_blocks(page)]
    try:
        for line, code in blocks:
            # The lines of the page, so that a traceback points into it.
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
    finally:
        close_clients(names)


def replace_servers(code: str, request: pytest.FixtureRequest) -> str:
    code_only = "\n".join(line.partition("  #")[0] for line in code.splitlines())
    if EXAMPLE_REDIS not in code_only:
        return code
    return code.replace(EXAMPLE_REDIS, request.getfixturevalue("redis_server").url)


def close_clients(names: dict[str, Any]) -> None:
    """What a page leaves open at its end, as a script does. Warnings about that are errors here."""
    for value in list(names.values()):
        if isinstance(value, locksmith.Client) or type(value).__name__ == "Connection":
            value.close()
    names.clear()
    gc.collect()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        where = (page.parent / path).resolve() if path else page
        assert where.exists(), f"{name_of(page)}: there is no {target}"
        assert where.is_relative_to(ROOT), f"{name_of(page)}: {target} is outside the repository"
        if anchor:
            assert anchor in anchors(where), f"{name_of(page)}: {path or 'this page'} has no heading {anchor}"


def anchors(page: Path) -> set[str]:
    """The headings of a page, the way they are linked to."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_listed() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / link).resolve() for link in LINK.findall(index.read_text("utf-8")) if ":" not in link}
    missing = [name_of(page) for page in PAGES if page not in (index, ROOT / "README.md") and page not in listed]
    assert not missing, f"docs/index.md does not list {missing}"


def test_first_commands_are_those_of_ci() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    first = FENCE.search(readme)
    assert first is not None
    assert readme[: first.start()].count("\n\n") == 2, "the commands come after the title and one paragraph"
    commands = [line.removeprefix("$ ") for line in first[3].splitlines()]
    assert commands == [
        "python3 -m venv .venv && . .venv/bin/activate",
        "python -m pip install . && locksmith demo",
        "python -m pip install nox && nox",
    ]
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    run = re.findall(r"^\{ (python -m pip .*?);? \}", ci, re.MULTILINE)
    assert run == commands[1:]


def test_the_table_of_stores_has_every_scheme() -> None:
    """What each of them promises is a table of its own, docs/guarantees.md, which is generated."""
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme[readme.index("\n## Stores\n") :].partition("\n\nWhich guarantee")[0]
    shown = set(re.findall(r"([\w+]+)://", table))
    assert shown <= registered()
    twins = {scheme for scheme in registered() if scheme.startswith("rediss+")}
    assert registered() - twins <= shown
