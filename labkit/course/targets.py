"""From a notebook's TARGET to a cluster: a sandbox, started if need be, or a context of the reader's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from labkit import cluster, config, display
from labkit.cluster import Target
from labkit.errors import SettingError

__all__ = ["SANDBOX", "choose"]

SANDBOX = "sandbox"


def choose(target: str, release: str) -> Target:
    """The cluster to work on, in use from now on.

    Args:
        target: "sandbox", or a context of the kubeconfig that `$KUBECONFIG` names (else of `~/.kube/config`).
        release: The Istio release; a sandbox plays the Kubernetes of its time.

    Raises:
        SettingError: There is no such context, or the sandbox could not be started (with its reason).
    """
    if target == SANDBOX:
        return cluster.use(Target(kubeconfig=_sandbox(release)))
    chosen = Target(Target.from_environment().kubeconfig, target)
    contexts = cluster.kubectl("config get-contexts -o name", show=False).split()
    if target not in contexts:
        raise SettingError(
            f"TARGET = {target!r} is no context of {chosen.kubeconfig or '~/.kube/config'}",
            next_step=f"Choose one of {', '.join(contexts)}, or 'sandbox'."
            if contexts
            else "It has none: use 'sandbox'.",
        )
    return cluster.use(chosen)


def _sandbox(release: str) -> str:
    name = _in_environment()
    if not name:
        # A class may have one of each release side by side; the first one keeps the plain name.
        known = {one["name"]: one["release"] for one in json.loads(_labkit("status", "--all", "--json"))}
        own = f"istio-{release.replace('.', '-')}"
        name = "default" if known.get("default") in (None, "", release) and own not in known else own
    command = ["up", *(["--name", name] if name != "default" else []), "--release", release]
    live = display.show(display.command(f"labkit {' '.join(command)}"))
    live.update(display.command(f"labkit {' '.join(command)}", _labkit(*command)))
    kubeconfig: str = json.loads(_labkit("status", "--json", "--name", name))["kubeconfig"]
    return kubeconfig


def _in_environment() -> str:
    """The sandbox whose kubeconfig `$KUBECONFIG` is; "" if it is none.

    A cluster of the reader's own is never taken just because KUBECONFIG names it: the course installs things.
    """
    path = os.environ.get("KUBECONFIG", "")
    folder = Path(path).absolute().parent if path else Path("/")
    return folder.name if folder.parent == config.home() / "sandboxes" else ""


def _labkit(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "labkit", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
    )
    # `status` says with exit code 3 that nothing runs.
    if done.returncode not in (0, 3):
        said = done.stderr.strip().removeprefix("labkit: ")
        message, _arrow, step = said.partition("\n→ ")
        raise SettingError(
            f"`labkit {' '.join(words)}` failed: {message or f'exit code {done.returncode}'}",
            next_step=step or "`labkit doctor` says what is missing or broken.",
        )
    return done.stdout
