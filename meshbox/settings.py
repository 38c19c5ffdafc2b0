# SPDX-License-Identifier: Apache-2.0
"""What one sandbox is told when it starts: shared by every part of it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path

from labkit.ground.errors import SandboxError
from labkit.ground.guard import LEAST_SECRET
from meshbox.addresses import AddressPlan

__all__ = ["PAGES_PORT", "XDS_PORT", "SandboxSettings", "proxies_token"]

XDS_PORT = 15010
"""Port on the node address where proxies hear of their configuration: Istio's own grpc-xds port."""

PAGES_PORT = 15014
"""Port on the node address where the control plane's pods ask for what they show: Istio's own port for that."""


def proxies_token(token: str) -> str:
    """What proxies show, for a sandbox with this token."""
    return hmac.new(token.encode(), b"xds", hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class SandboxSettings:
    """Everything a part of the sandbox may need to know about where it runs.

    Args:
        name: The sandbox's name, a DNS label.
        home: Its folder (mode 0700): kubeconfig, objects, logs, pods.
        release: The Istio release whose time the sandbox plays: "1.2.2" or "1.30.3".
        plan: Its addresses.
        token: The bearer token of the API server, at least 32 characters.
        loadbalancer: Whether Services of type LoadBalancer get an address.
        recover: Whether to take what is sound out of a damaged journal of objects, instead of refusing to start.
        real_clocks: Whether telemetry runs at Istio's own intervals (15 s scrapes, 5 s until stats and
            spans are handed on) instead of the sandbox's quick ones.

    Raises:
        SandboxError: the token is too short to be one: nothing starts with it.
    """

    name: str
    home: Path
    release: str
    plan: AddressPlan
    token: str = field(repr=False)
    loadbalancer: bool = False
    real_clocks: bool = False
    recover: bool = False

    def __post_init__(self) -> None:
        """Refuse a token that was lost on its way: accounts' and proxies' are made from it."""
        if len(self.token) < LEAST_SECRET:
            raise SandboxError(
                f"the token of sandbox {self.name!r} has {len(self.token)} characters, not {LEAST_SECRET} or more",
                next_step=f"remove {self.home / 'token'}: the next start makes a new one",
            )

    @property
    def node_name(self) -> str:
        """The name of the sandbox's one Node."""
        return f"labkit-{self.name}"

    @property
    def legacy(self) -> bool:
        """Whether the sandbox plays the Kubernetes (1.14) of Istio 1.2's time."""
        return self.release.startswith("1.2.")

    @property
    def kubernetes_version(self) -> str:
        """What ``kubectl version`` shows for the server, beside a compiler of "none": the version that is played."""
        return "v1.14.10" if self.legacy else "v1.35.4"

    @property
    def xds_token(self) -> str:
        """What proxies show to the xDS server: made from the API's token, which it does not reveal."""
        return proxies_token(self.token)

    @property
    def pods_dir(self) -> Path:
        """Parent of the pods' private folders."""
        return self.home / "pods"
