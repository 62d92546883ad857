"""One command per question; `nox` alone asks all of them. Needs nothing but Python, nox and a package registry.

Knobs, all environment variables:
    LOCKSMITH_FULL=1        the whole suite on every Python (else slow tests and some stores on the first one only)
    LOCKSMITH_WORKERS=8     pytest workers (default 4, most of whose time is waiting for ttls; 0: one process)
    CI=true                 a server program that is missing is a failure, not a skip
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "build", "tests", "gevent", "lowest", "example"]
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False

PROJECT = nox.project.load_toml("pyproject.toml")
SUPPORTED = ["3.11", "3.12", "3.13", "3.14"]
TYPED = ["locksmith", "backends", "benchmarks", "examples/thirdparty_store", "tests/typing"]
WORKERS = os.environ.get("LOCKSMITH_WORKERS", "4")
FULL = os.environ.get("LOCKSMITH_FULL", "") not in {"", "0"}
# Stores that the first Python is enough for: the others run what is ours, and the stores that most people use.
ONCE = "several or mariadb or zookeeper or etcd or consul"
# So is what is read from the code, what starts server programs, and what their answers decide. A newer Python changes
# threads, event loops, sqlite3 and drivers' sockets: those tests run on all of them.
FIRST_ONLY = (
    "tests/test_house.py",
    "tests/bench",
    "tests/cli/test_demo.py",
    "tests/cli/test_errors.py",
    "tests/cli/test_serve.py",
    "tests/cli/test_stores.py",
    "tests/contract/test_postgresql_advisory.py",
    "tests/stores/postgresql",
)
# Where the oldest drivers could show: the rest of the suite meets a store through verbs that the contract has tested.
DRIVEN = ("tests/celery", "tests/cli", "tests/contract", "tests/metrics", "tests/stores")
UNDRIVEN = ("tests/cli/test_demo.py", "tests/cli/test_serve.py", "tests/contract/test_memory.py")
# What gevent could change. The rest starts processes of its own, where nothing is patched.
GREEN = ("adapters", "core", "engine", "heart", "metrics", "recipes", "testing")
# The stores, in groups that run side by side: their tests mostly wait for servers.
GREEN_STORES = (("sqlite", "memory", "redis"), ("postgresql", "mysql", "mariadb"), ("zookeeper", "etcd", "consul"))


# ------------------------------------------------------------------------------------- which Pythons are here


def output_of(*command: str) -> str | None:
    """What the command prints, or None where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def open_pyenv() -> None:
    """Let pyenv's shims start every supported Python that pyenv has, not only the selected one."""
    have = output_of("pyenv", "versions", "--bare")
    now = output_of("pyenv", "version-name")
    if have is None or now is None:
        return
    newest = {version: name for name in have.split() for version in SUPPORTED if name.startswith(f"{version}.")}
    selected = now.strip().split(":")
    os.environ["PYENV_VERSION"] = ":".join([*selected, *(name for name in newest.values() if name not in selected)])


def runs(version: str) -> bool:
    """Whether this Python really starts: a name on PATH may be a shim with nothing behind it."""
    said = output_of(f"python{version}", "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])")
    return said is not None and said.strip() == version


open_pyenv()
PYTHONS = [version for version in SUPPORTED if runs(version)]
for missing in sorted(set(SUPPORTED) - set(PYTHONS)):
    print(f"python{missing} does not run on this machine: skipped")
if not PYTHONS:
    raise SystemExit(f"no supported Python runs on this machine: {', '.join(SUPPORTED)}")
FIRST = PYTHONS[0]


# ------------------------------------------------------------------------------------- what sessions share


def group(name: str) -> list[str]:
    """The requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, name))


_wheels: list[Path] = []
_servers_asked: list[bool] = []


def wheel(session: nox.Session) -> Path:
    """The wheel, built once in each run of nox."""
    if not _wheels:
        folder = Path(session.cache_dir) / "wheel"
        shutil.rmtree(folder, ignore_errors=True)
        session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), ".")
        _wheels.extend(folder.glob("*.whl"))
    return _wheels[0]


def install_built(session: nox.Session, *extra: str, extras: str = "all") -> None:
    """Install the built wheel, never the checkout, and the further requirements in one resolution."""
    session.install(f"locksmith[{extras}] @ {wheel(session).resolve().as_uri()}", *extra)


def install_servers(session: nox.Session) -> None:
    """Make the server programs available that the tests need, once in each run of nox."""
    if not _servers_asked:
        session.run("python", "-m", "locksmith.testing.servers", "install", env=environment())
        _servers_asked.append(True)


def environment() -> dict[str, str]:
    """Keep the checkout off sys.path: what is tested is what was installed.

    And let Python keep what it has compiled, also where a container says otherwise: pytest compiles tests and plugins
    in its own way, and each of its processes, of which there are hundreds, would take a second for that again.
    """
    return {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": ""}


def workers() -> list[str]:
    # Each begins with a share of its own, so that not every worker starts every server, and takes from others' then.
    return ["-n", WORKERS, "--dist", "worksteal"] if WORKERS != "0" else []


def without(paths: tuple[str, ...]) -> list[str]:
    """Options of pytest that leave these out. Each must be there: what is renamed would come back unseen."""
    if missing := [path for path in paths if not Path(path).exists()]:
        raise SystemExit(f"noxfile.py names what is gone: {', '.join(missing)}")
    return [f"--ignore={path}" for path in paths]


# ------------------------------------------------------------------------------------- the questions


@nox.session(python=FIRST)
def lint(session: nox.Session) -> None:
    """Is it written as agreed?"""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=FIRST)
def types(session: nox.Session) -> None:
    """Do the types hold, for us (mypy) and for users (mypy and basedpyright on a file that never runs)?"""
    install_built(session, *group("types"))
    # the dependencies stay; the code that is checked is the checkout's
    session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "locksmith")
    session.run("mypy", *TYPED)
    session.run("basedpyright")


@nox.session(python=FIRST)
def build(session: nox.Session) -> None:
    """Do sdist and wheel build, the one from the other, and does a clean environment import what users get?"""
    session.install("build")
    folder = Path(session.create_tmp()) / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder))
    (built,) = folder.glob("*.whl")
    session.install(str(built))
    session.run("python", "tests/support/clean_import.py", env=environment())
    session.run("locksmith", "--help", silent=True)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Does the built package pass its tests, on real servers? All of them on the first Python."""
    install_built(session, *group("test"))
    install_servers(session)
    everything = FULL or session.python == FIRST
    chosen = [] if everything else ["-m", f"not slow and not ({ONCE})", *without(FIRST_ONLY)]
    session.run("pytest", *workers(), *chosen, *session.posargs, env=environment())


@nox.session(python=FIRST)
def gevent(session: nox.Session) -> None:
    """Does the blocking face pass its tests where gevent has replaced threads and sockets?"""
    install_built(session, *group("test"))
    install_servers(session)
    command = ["python", "-m", "gevent.monkey", "--module", "pytest"]
    # A greenlet that waits for ever is out of reach of a signal; this watchdog is a thread of the C library.
    watchdog = ["-o", "faulthandler_timeout=120", "-o", "faulthandler_exit_on_timeout=true"]
    command += ["-m", "not slow", *watchdog]
    if session.posargs:
        session.run(*command, *session.posargs, env=environment())
        return
    side_by_side = [word for paths in green_paths() for word in ("--", *command, *paths)]
    session.run("python", "tests/support/side_by_side.py", *side_by_side, env=environment())


def green_paths() -> list[list[str]]:
    """What each of the processes has to test: everything that is not a store, and the stores in groups."""
    stores = sorted(Path("tests/stores").glob("[!_]*/")) + sorted(Path("tests/contract").glob("test_*.py"))
    groups: list[list[str]] = [[f"tests/{folder}" for folder in GREEN]]
    for names in GREEN_STORES:
        mine = [path for path in stores if any(name in path.name for name in names)]
        stores = [path for path in stores if path not in mine]
        groups.append([str(path) for path in mine])
    groups[0] += [str(path) for path in stores]
    return groups


@nox.session(python=FIRST)
def lowest(session: nox.Session) -> None:
    """Does it run on the oldest drivers that pyproject.toml declares?"""
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("".join(f"{line}\n" for line in lower_bounds()))
    session.log("oldest declared: %s", ", ".join(lower_bounds()))
    install_built(session, *group("test"), "--constraint", str(constraints))
    install_servers(session)
    # A driver of some years may use what today's Python deprecates, and leave a transport behind where its connect() is
    # cancelled (redis-py 5.2.1); neither is ours to mend. What we leave behind ourselves the other sessions see.
    tolerated = ("DeprecationWarning", "PendingDeprecationWarning", "pytest.PytestUnraisableExceptionWarning")
    relaxed = [word for warning in tolerated for word in ("-W", f"default::{warning}")]
    chosen = ["-m", "not slow and not several", *without(UNDRIVEN)]
    session.run("pytest", *workers(), *chosen, *relaxed, *(session.posargs or DRIVEN), env=environment())


def lower_bounds() -> list[str]:
    """`name==version` for each `name>=version` that a store or adapter declares."""
    extras = PROJECT["project"]["optional-dependencies"]
    # pytest is the reader's, not a driver: the suite itself needs a newer one
    declared = [
        *PROJECT["project"]["dependencies"],
        *(line for name in extras if name != "testing" for line in extras[name]),
    ]
    pairs = (line.partition(">=") for line in declared if ">=" in line)
    return sorted({f"{name.partition('[')[0]}=={rest.partition(',')[0].strip()}" for name, _, rest in pairs})


@nox.session(python=FIRST)
def example(session: nox.Session) -> None:
    """Does a stranger's store, installed from its own project, pass the contract suite?"""
    install_built(session, *group("test"), extras="testing")
    session.install("./examples/thirdparty_store")
    session.run("pytest", *workers(), "examples/thirdparty_store", *session.posargs, env=environment())


# ------------------------------------------------------------------------------------- not by default


@nox.session(python=FIRST, default=False)
def bench(session: nox.Session) -> None:
    """What does it cost, against the floor and against rivals? Quickly: `nox -s bench -- --quick`."""
    install_built(session, extras="bench")
    install_servers(session)
    session.run("python", "-m", "locksmith_bench", *session.posargs, env=environment())


@nox.session(python=FIRST, default=False)
def beat_chaos(session: nox.Session) -> None:
    """Is no fire lost or run twice, whatever happens to beats? Shorter, and again: `-- --seconds 60 --seed 1 redis`."""
    install_built(session)
    install_servers(session)
    for mode in ("elected", "active"):
        session.run("python", "tests/support/beat_chaos.py", "--mode", mode, *session.posargs, env=environment())


@nox.session(python=FIRST, default=False)
def stubs(session: nox.Session) -> None:
    """Make the etcd store's messages anew from its rpc.proto."""
    session.install("grpcio-tools==1.85.1")
    session.run("python", "tests/support/etcd_stubs.py")
