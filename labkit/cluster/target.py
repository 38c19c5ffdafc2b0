"""Which cluster: a kubeconfig and a context, nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from labkit import config

__all__ = ["Target", "current", "use"]


@dataclass(frozen=True)
class Target:
    """A cluster as kubectl knows one.

    Args:
        kubeconfig: Its kubeconfig (several may be joined with ":"); "" for kubectl's own default, `~/.kube/config`.
        context: The context in it; "" for its current one.
    """

    kubeconfig: str = ""
    context: str = ""

    @classmethod
    def from_environment(cls) -> Target:
        """What `$KUBECONFIG` says, as kubectl would take it."""
        overlay = f"{_overlays()}/"
        files = os.environ.get("KUBECONFIG", "").split(":")
        return cls(kubeconfig=":".join(file for file in files if not file.startswith(overlay)))

    @property
    def arguments(self) -> list[str]:
        """kubectl's flags for this target."""
        return ["--context", self.context] if self.context else []

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command for this target, with this installation's programs first on the PATH.

        kubectl's discovery cache goes below labkit's own folder: nothing is written to `~/.kube`.
        """
        bin_dir = str(Path(sys.executable).parent)
        path = os.environ.get("PATH", os.defpath)
        added = {"PATH": path if path.split(":", 1)[0] == bin_dir else f"{bin_dir}:{path}"}
        added |= {"KUBECACHEDIR": str(config.home() / "cache" / "kubectl"), "KUBERC": "off"}
        return {**os.environ, **added, **self.variables}

    @property
    def variables(self) -> dict[str, str]:
        """KUBECONFIG for this target, where it needs one."""
        if self.context:
            # `kubectl` in a shell line has no --context: a file before the others says which is the current one.
            return {"KUBECONFIG": f"{_overlay(self.context)}:{self.kubeconfig or Path.home() / '.kube/config'}"}
        return {"KUBECONFIG": self.kubeconfig} if self.kubeconfig else {}

    def __str__(self) -> str:
        where = self.kubeconfig or "~/.kube/config"
        return f"context {self.context} of {where}" if self.context else where


def _overlays() -> Path:
    return config.home() / "contexts"


def _overlay(context: str) -> Path:
    path = _overlays() / f"{hashlib.sha256(context.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": context}))
        temporary.replace(path)
    return path


_current: Target | None = None


def use(target: Target) -> Target:
    """Make `target` the one that every helper talks to from now on, and `!kubectl` in this notebook as well."""
    global _current
    _current = target
    os.environ.update(target.variables)
    return target


def current() -> Target:
    """The target in use: the one given to `use`, else what the environment says."""
    return _current if _current is not None else Target.from_environment()
