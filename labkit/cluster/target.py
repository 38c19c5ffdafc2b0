"""Which cluster: a kubeconfig and a context, nothing else."""

from __future__ import annotations

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
        return cls(kubeconfig=os.environ.get("KUBECONFIG", ""))

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
        if self.kubeconfig:
            added["KUBECONFIG"] = self.kubeconfig
        return {**os.environ, **added}

    def __str__(self) -> str:
        where = self.kubeconfig or "~/.kube/config"
        return f"context {self.context} of {where}" if self.context else where


_current: Target | None = None


def use(target: Target) -> Target:
    """Make `target` the one that every helper talks to from now on, and `!kubectl` in this notebook as well."""
    global _current
    _current = target
    if target.kubeconfig:
        os.environ["KUBECONFIG"] = target.kubeconfig
    return target


def current() -> Target:
    """The target in use: the one given to `use`, else what the environment says."""
    return _current if _current is not None else Target.from_environment()
