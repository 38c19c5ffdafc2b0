# SPDX-License-Identifier: Apache-2.0
"""Makes the course's virtual environment: `python3 -m tools.environment FOLDER EXTRA`.

pip alone is either silent for minutes or prints hundreds of lines. This says first how much it will be, and then how
far it is. Nothing but the standard library is there yet.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from labkit.ground.saying import Note, saying

LEAST_PIP = 25
"""The pip that comes with an older Python does not understand today's packages."""

ABOUT = {"sandbox": (135, 170, 840), "dev": (170, 268, 1142)}
"""What an extra and all that it needs are: packages, MB to download, MB on the disk."""

_TAKES = "1 to 5 minutes"
_RULED = re.compile(r"^Installing collected packages: (.*)")
_SIZED = re.compile(r"^ *Downloading ([A-Za-z0-9_.]+?)-.*\(([0-9.]+ [kMG]?B)\)")


def main(folder: Path, extra: str) -> int:
    """Make the environment `folder`, or complete it; 1 and pip's own words if that fails."""
    python = folder / "bin" / "python"
    # One that works is kept: made over with another Python, an older one would be half of each.
    if not _works(python):
        with saying(f"making {folder} with Python {sys.version.split()[0]}"):
            made = subprocess.run([sys.executable, "-m", "venv", "--clear", folder], capture_output=True, text=True)
        if made.returncode:
            print((made.stdout + made.stderr).strip(), file=sys.stderr)
            print(f"→ {sys.executable} cannot make virtual environments: install python3-venv", file=sys.stderr)
            return 1
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    if _pip_version(pip) < LEAST_PIP:
        with saying(f"bringing pip {LEAST_PIP} or later"):
            code = _run([*pip, "install", "--quiet", "--upgrade", f"pip>={LEAST_PIP}"], lambda _: None)
        if code:
            return code
    _forget_old_name(folder, pip)
    packages, download, disk = ABOUT[extra]
    began, there = time.monotonic(), _installed(folder)
    if there < packages // 2:
        print(
            f"installing about {packages} Python packages into {folder}: {download} MB to download, "
            f"{disk} MB on the disk, {_TAKES}",
            flush=True,
        )
    with saying(f"installing into {folder}") as note:
        code = _run(
            [*pip, "install", "--progress-bar=raw", "--constraint=constraints.txt", f"--editable=.[{extra}]"],
            _Progress(note, packages, folder),
        )
    if code == 0:
        print(f"{_installed(folder)} packages are in {folder} ({time.monotonic() - began:.0f} s)")
    return code


class _Progress:
    """Reads what pip prints: packages that it looks up, those it downloads, and at last those it installs."""

    def __init__(self, note: Note, expected: int, folder: Path) -> None:
        self._note, self._expected, self._folder = note, expected, folder
        self._known = 0
        self._installs = False
        self._name = "this project"

    def __call__(self, line: str) -> None:
        if self._installs:
            return
        if line.startswith(("Collecting ", "Requirement already satisfied: ")):
            self._known += line.startswith("Collecting ")
            self._name = re.split(r"[ =<>!~;\[(]", line.removeprefix("Collecting "), maxsplit=1)[0]
        elif found := _SIZED.match(line):
            self._name = f"{found[1]}, {found[2]}"
        elif found := _RULED.match(line):
            self._installs = True
            count, before = found[1].count(",") + 1, _installed(self._folder)

            def unpacked() -> tuple[str, float]:
                done = min(count, max(0, _installed(self._folder) - before))
                return f"{done} of {count} unpacked", done / count

            self._note.ask(unpacked)
            return
        # Downloads are the longer part by far.
        self._note(f"{self._known} of about {self._expected}: {self._name}", min(1.0, self._known / self._expected))


def _run(command: list[str], told: Callable[[str], None]) -> int:
    """Run `command`, telling each line of its output; the last of them are printed if it fails."""
    last: deque[str] = deque(maxlen=12)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told(line.rstrip())
            if not line.startswith("Progress "):
                last.append(line.rstrip())
    if process.returncode:
        print("\n".join(last), file=sys.stderr)
        print("→ is there a network, and room on the disk? The same command goes on where it stopped", file=sys.stderr)
    return process.returncode


def _forget_old_name(folder: Path, pip: list[str]) -> None:
    """Up to 0.1 this project was called `labkit`: what is left of that shows each tile of JupyterLab a second time."""
    shutil.rmtree("labkit.egg-info", ignore_errors=True)
    if any(folder.glob("lib/python*/site-packages/labkit-*.dist-info")):
        _run([*pip, "uninstall", "--quiet", "--yes", "labkit"], lambda _: None)


def _works(python: Path) -> bool:
    return python.exists() and not subprocess.run([python, "-c", "import ssl, pip"], capture_output=True).returncode


def _installed(folder: Path) -> int:
    return len(list(folder.glob("lib/python*/site-packages/*.dist-info")))


def _pip_version(pip: list[str]) -> int:
    said = subprocess.run([*pip, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"pip (\d+)", said)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
    except KeyboardInterrupt:
        sys.exit(130)
