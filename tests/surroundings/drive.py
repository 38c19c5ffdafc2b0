# SPDX-License-Identifier: Apache-2.0
"""One sandbox from `labkit up` to `labkit down`, inside the surroundings that it inherits: prints what came of it.

``python -I drive.py NAME EACH``: its Python is the one whose labkit is used. Stands alone: runs before anything of ours
is known to load.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def run(command: list[str], each: str = 'exec "$@"') -> dict[str, object]:
    done = subprocess.run(["/bin/sh", "-c", each, "sh", *command], capture_output=True, timeout=240)
    return {
        "code": done.returncode,
        "out": done.stdout.decode(errors="replace"),
        "err": done.stderr.decode(errors="replace"),
    }


def labkit(*words: str, each: str = 'exec "$@"') -> dict[str, object]:
    return run([sys.executable, "-m", "labkit", *words], each)


def folder(name: str) -> Path:
    home = os.environ.get("LABKIT_HOME") or os.path.join(os.environ.get("HOME", "/nonexistent"), ".labkit")
    return Path(os.path.abspath(os.path.expanduser(home))) / "sandboxes" / name


def there(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def main() -> None:
    name, each = sys.argv[1:]
    before = there(folder(name))
    found: dict[str, object] = {"up": labkit("up", f"--name={name}", each=each)}
    status = labkit("status", f"--name={name}", "--json")
    if status["code"] == 0:
        kubeconfig = json.loads(str(status["out"]))["kubeconfig"]
        get = ["get", "namespaces", "-o", "name"]
        found["kubectl"] = run([str(BIN / "kubectl"), "--kubeconfig", kubeconfig, *get])
        found["env"] = labkit("env", f"--name={name}")
        found["down"] = labkit("down", f"--name={name}", "--delete")
    found["left"] = there(folder(name)) and not before
    print(json.dumps(found))


if __name__ == "__main__":
    main()
