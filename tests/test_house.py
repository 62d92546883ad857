"""The house rules, read from the code itself. Layers and modules are those of docs/architecture.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOC = ROOT / "docs" / "architecture.md"
LIMIT = 400

LAYERS = [
    "testing",
    "cli, supervise, celery",
    "public names",
    "adapters",
    "client, aio",
    "recipes",
    "engine",
    "registry, events, memory",
    "store",
    "runtime",
    "names, redact, errors",
]
"""From the top down, as the headings of the map say it. A module imports from its own layer and from those below."""

OURS_FOR_STORES = {
    "locksmith.store",
    "locksmith.nodes",
    "locksmith.fencing",
    "locksmith.pacing",
    "locksmith.positions",
    "locksmith.runtime",
    "locksmith.names",
    "locksmith.redact",
    "locksmith.errors",
}

STRANGERS = {
    "locksmith/cli": {"click", "rich"},
    "locksmith/celery": {"celery", "django", "kombu"},
    "locksmith/metrics": {"prometheus_client"},
    "locksmith/testing": {"pytest", "hypothesis"},
    "locksmith": set(),
    "backends/locksmith_redis": {"redis", "hiredis"},
    "backends/locksmith_sql": {"sqlalchemy"},
    "backends/locksmith_sql/postgresql": {"sqlalchemy", "psycopg"},
    "backends/locksmith_sql/mysql": {"sqlalchemy", "pymysql", "aiomysql"},
    "backends/locksmith_zookeeper": {"kazoo"},
    "backends/locksmith_etcd": {"grpc", "google"},
    "backends/locksmith_consul": {"consul"},
}
"""What may be imported beside the standard library, by folder; the longest prefix counts. Drivers live in backends."""

STANDARD = sys.stdlib_module_names | {"annotationlib"}
"""Of this Python, and of newer ones that the code looks out for."""


# ------------------------------------------------------------------------------------- reading code and map


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


HOUSE = sources("locksmith", "backends", "benchmarks")
CORE = sources("locksmith")
STORES = sources("backends")
SHIPPED = [*CORE, *STORES]


def module_name(path: Path) -> str:
    inside = path.relative_to(
        ROOT if path.is_relative_to(ROOT / "locksmith") else ROOT / path.relative_to(ROOT).parts[0]
    )
    return ".".join(inside.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in HOUSE}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), shown(path))


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that this one imports, at whatever depth: also in functions, also for type checkers only."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{shown(path)} imports relatively"
            found.update(_from(node.module or "", name.name) for name in node.names)
    return frozenset(found)


def _from(module: str, name: str) -> str:
    """`from a import b` imports a.b where that is a module of ours, and a otherwise."""
    return f"{module}.{name}" if f"{module}.{name}" in MODULES else module


@cache
def map_of_modules() -> dict[str, str]:
    """Layer (or part of the house) by path, from the map in the documentation. A folder stands for its __init__.py."""
    text = DOC.read_text("utf-8")
    section = text[text.index("\n## The map") :].split("\n## ", 2)[1]
    found: dict[str, str] = {}
    heading = ""
    for line in section.splitlines():
        if line.startswith("### "):
            heading = line.removeprefix("### ").strip()
        elif entry := re.match(r"- `([^`]+)`: \S", line):
            path = f"{entry[1]}__init__.py" if entry[1].endswith("/") else entry[1]
            assert path not in found, f"the map has {path} twice"
            found[path] = heading
    return found


@cache
def reasons() -> dict[str, str]:
    """Why a file is long, from the documentation."""
    text = DOC.read_text("utf-8")
    section = text[text.index("\n## Long files") :].split("\n## ", 2)[1]
    return dict(re.findall(r"^- `([^`]+)`: (\S.*)$", section, re.MULTILINE))


# ------------------------------------------------------------------------------------- the rules


def test_the_map_names_every_module_and_nothing_else():
    mapped, real = set(map_of_modules()), {shown(path): path for path in HOUSE}
    missing = [_entry(real[name]) for name in sorted(set(real) - mapped)]
    assert not missing, "add to the map in docs/architecture.md, in the right place:\n" + "\n".join(missing)
    assert sorted(mapped - set(real)) == [], "in docs/architecture.md, but gone"


def _entry(path: Path) -> str:
    what = (ast.get_docstring(tree(path)) or "").partition("\n\n")[0].replace("\n", " ")
    return f"- `{shown(path).removesuffix('__init__.py')}`: {what}"


def test_the_map_has_the_layers_in_order():
    headings = list(dict.fromkeys(map_of_modules().values()))
    assert [heading for heading in headings if heading in LAYERS] == LAYERS


def test_every_module_of_the_core_has_a_layer():
    layers = map_of_modules()
    assert [shown(path) for path in CORE if layers.get(shown(path)) not in LAYERS] == []


@pytest.mark.parametrize("path", CORE, ids=shown)
def test_imports_run_downwards(path):
    own = layer(path)
    upward = [name for name in imports(path) if name in MODULES and layer(MODULES[name]) < own]
    assert upward == [], f"{shown(path)} is in layer {LAYERS[own]!r}"


def layer(path: Path) -> int:
    """Counted from the top. What is not on the map yet (another test says so) counts as part of its neighbours."""
    layers = map_of_modules()
    near = [name for name in layers if name.startswith(f"{shown(path.parent)}/")]
    heading = layers.get(shown(path)) or (layers[near[0]] if near else LAYERS[0])
    return LAYERS.index(heading) if heading in LAYERS else len(LAYERS)


@pytest.mark.parametrize("path", STORES, ids=shown)
def test_a_store_imports_of_ours_only_the_interface(path):
    own = module_name(path).partition(".")[0]
    ours = {name for name in imports(path) if name in MODULES and name.partition(".")[0] != own}
    assert sorted(ours - OURS_FOR_STORES) == []


def test_the_example_of_a_store_is_short_and_a_stranger():
    path = ROOT / "examples" / "thirdparty_store" / "locksmith_dir.py"
    ours = {name for name in imports(path) if name in MODULES}
    assert sorted(ours - OURS_FOR_STORES - {"locksmith.memory_world"}) == []
    assert len(path.read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("path", CORE, ids=shown)
def test_the_core_imports_no_store_and_not_the_suite(path):
    roots = {name.partition(".")[0] for name in imports(path)}
    assert [root for root in roots if root in MODULES and root != "locksmith"] == []


@pytest.mark.parametrize("path", SHIPPED, ids=shown)
def test_strangers_are_imported_where_they_belong(path):
    place = max((folder for folder in STRANGERS if shown(path).startswith(f"{folder}/")), key=len)
    roots = {name.partition(".")[0] for name in imports(path)}
    strangers = {root for root in roots if root not in STANDARD and root not in MODULES}
    assert sorted(strangers - STRANGERS[place]) == []


def _prints(path: Path) -> Iterator[int]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno


def test_only_the_command_line_prints():
    spoken = [f"{shown(path)}:{line}" for path in SHIPPED for line in _prints(path)]
    assert [place for place in spoken if not place.startswith(("locksmith/cli/", "locksmith/__main__.py"))] == []


def test_long_files_have_a_reason():
    everywhere = [*HOUSE, *sources("tests", "examples"), ROOT / "noxfile.py"]
    long = {shown(path) for path in everywhere if len(path.read_text("utf-8").splitlines()) > LIMIT}
    assert sorted(long - set(reasons())) == [], f"over {LIMIT} lines, without a reason in docs/architecture.md"
    assert sorted(set(reasons()) - long) == [], "no longer long: take the reason out of docs/architecture.md"


def test_nothing_is_left_for_later():
    later = re.compile(r"\b(TO" + "DO|FIX" + r"ME)\b")
    texts = [path for folder in ("docs", ".ci") for path in (ROOT / folder).rglob("*") if path.is_file()]
    everywhere = [*HOUSE, *sources("tests", "examples"), *texts, *ROOT.glob("*.md"), ROOT / "noxfile.py"]
    assert [shown(path) for path in everywhere if later.search(path.read_text("utf-8"))] == []


HEAVY = ["asyncio", "click", "hiredis", "redis", "rich", "sqlalchemy"]


def test_importing_locksmith_is_light():
    program = f"import sys, locksmith; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("package", ["locksmith", "backends/locksmith_redis", "backends/locksmith_sql",
                                     "backends/locksmith_zookeeper", "backends/locksmith_etcd",
                                     "backends/locksmith_consul", "benchmarks/locksmith_bench"])  # fmt: skip
def test_packages_say_that_they_are_typed(package):
    assert (ROOT / package / "py.typed").is_file()
