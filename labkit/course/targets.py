# SPDX-License-Identifier: Apache-2.0
"""From a notebook's TARGET to a cluster: a sandbox, started if need be, or a context of the reader's own."""

from __future__ import annotations

from labkit import cluster, display, sandbox, user
from labkit.choice import SANDBOX
from labkit.cluster import Chosen, Target
from labkit.cluster.target import choosing
from labkit.ground import sandboxes
from labkit.ground.errors import SettingError

__all__ = ["SANDBOX", "choose"]


def choose(target: str, release: str) -> Chosen:
    """The cluster to work on, in use from now on; if it cannot be had, none is, and every helper says why.

    Args:
        target: "sandbox", or a context of the user's own `$KUBECONFIG` (else of `~/.kube/config`).
        release: The Istio release; a sandbox plays the Kubernetes of its time.

    Raises:
        SettingError: There is no such context, or the sandbox could not be started (with its reason).
        ClusterError: It does not answer.
    """
    with choosing():
        if not target:
            raise SettingError("TARGET names no cluster", next_step="Name a context of your kubeconfig, or 'sandbox'.")
        if target == SANDBOX:
            return cluster.use(Target(kubeconfig=_sandbox(release)))
        return cluster.use(Target.from_environment(target))


def _sandbox(release: str) -> str:
    name = sandboxes.named(release, user.sandbox())
    command = ["up", *(["--name", name] if name != sandboxes.DEFAULT else []), "--release", release]
    live = display.show(display.command(f"labkit {' '.join(command)}"))
    live.update(display.command(f"labkit {' '.join(command)}", sandbox.call(*command)))
    return str(sandboxes.kubeconfig(name))
