# SPDX-License-Identifier: Apache-2.0
"""A virtual environment that has our libraries, but nothing of this checkout; and what its processes take."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import BIN

__all__ = ["Environment", "memory"]

ASKED = """
import json, labkit
from jupyter_core.paths import ENV_JUPYTER_PATH, jupyter_config_path
from jupyter_server.config_manager import BaseJSONConfigManager
from jupyterlab_server.config import get_federated_extensions, get_page_config
from labkit.course.folder import notebooks

enabled = {}
for folder in jupyter_config_path():
    said = BaseJSONConfigManager(config_dir=folder).get("jupyter_server_config")
    enabled |= said.get("ServerApp", {}).get("jpserver_extensions", {})
print(json.dumps({
    "package": labkit.__file__,
    "notebooks": str(notebooks()),
    "enabled": enabled,
    "extensions": list(get_federated_extensions([ENV_JUPYTER_PATH[0] + "/labextensions"])),
    "disabled": get_page_config([])["disabledExtensions"],
}))
"""


@dataclass(frozen=True)
class Environment:
    """One in `folder`; commands run in a folder beside it, with a HOME beside it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Environment:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=240)
        (packages,) = folder.glob("lib/python*/site-packages")
        # Links of these packages are not followed: this checkout, installed as a link, stays away.
        (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return cls(folder)

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def variables(self) -> dict[str, str]:
        foreign = ("LABKIT", "JUPYTER", "PYTHON", "KUBECONFIG")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        programs = f"{self.folder / 'bin'}:{BIN}:{os.environ['PATH']}"
        # The libraries' own data, such as nbconvert's templates, are where the libraries are.
        data = str(Path(sys.prefix) / "share" / "jupyter")
        home = str(self.folder.parent / "home")
        return {**kept, "HOME": home, "PATH": programs, "JUPYTER_PATH": data, "LABKIT_PROGRESS": "off"}

    def run(self, *command: str, timeout: float = 240, cwd: Path | None = None, **more: str) -> str:
        if cwd is None:
            cwd = self.folder.parent / "elsewhere"
            cwd.mkdir(exist_ok=True)
        env = {**self.variables, **more}
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, *what: str, cwd: Path | None = None) -> str:
        alone = ("--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed")
        return self.run(sys.executable, "-m", "pip", f"--python={self.python}", "install", *alone, *what, cwd=cwd)

    def asked(self) -> dict[str, object]:
        said: dict[str, object] = json.loads(self.run(self.python, "-c", ASKED))
        return said


def memory(home: Path) -> int:
    """Bytes that belong to the processes of a user with this HOME, their sandboxes included; pages that several share
    count for each its part.
    """
    total = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            said = process.environ()
            # A container has a HOME of its own.
            if said.get("HOME") == str(home) or said.get("LABKIT_SANDBOX", "").startswith(f"{home}/"):
                total += process.memory_full_info().pss
    return total
