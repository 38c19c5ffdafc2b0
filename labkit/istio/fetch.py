# SPDX-License-Identifier: Apache-2.0
"""The official archive of a release: fetched once, checked, unpacked below `$LABKIT_HOME/releases`."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from labkit.ground import config, download
from labkit.ground.transfer import Patience
from labkit.istio.model import Facts

__all__ = ["DOWNLOADS", "Patience", "archive_url", "fetch"]

DOWNLOADS = "https://github.com/istio/istio/releases/download"
"""Where Istio's archives are; `$LABKIT_ISTIO_DOWNLOADS` names a mirror with the same layout."""


def archive_url(facts: Facts, base_url: str = "") -> str:
    """Address of a release's archive for this machine.

    Args:
        facts: The release.
        base_url: The address below which releases are; "" for `$LABKIT_ISTIO_DOWNLOADS`, else `DOWNLOADS`.
    """
    base = base_url or os.environ.get("LABKIT_ISTIO_DOWNLOADS") or DOWNLOADS
    system = "osx" if sys.platform == "darwin" else "linux"
    # Archives are named by processor since Istio 1.6; only istioctl in them depends on it.
    if not facts.version.startswith("1.2."):
        system += {"aarch64": "-arm64", "arm64": "-arm64"}.get(platform.machine(), "-amd64")
    return f"{base.rstrip('/')}/{facts.version}/{facts.archive.format(system=system)}"


def fetch(facts: Facts, *, base_url: str = "", patience: Patience | None = None, bar: bool = True) -> Path:
    """Have the official archive of a release, unpacked; fetched only if it is not there yet.

    Args:
        facts: The release.
        base_url: As for `archive_url`.
        patience: How long to wait for the server.
        bar: Whether to show a progress bar.

    Returns:
        The folder, `$LABKIT_HOME/releases/istio-VERSION`.

    Raises:
        ReleaseError: It cannot be had, or is not what its checksum says.
    """
    folder = config.home() / "releases" / f"istio-{facts.version}"
    if not folder.exists():
        download.unpacked(archive_url(facts, base_url), folder, patience=patience, bar=bar)
    return folder
