# SPDX-License-Identifier: Apache-2.0
"""A release of Istio on disk: from a folder, from the official archive, or the workshop's own manifests."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from labkit.ground import config, files
from labkit.ground.errors import ReleaseError
from labkit.istio import releases
from labkit.istio.model import Component, Facts, Service

__all__ = ["Release", "download", "release"]

OWN = Path(__file__).parent / "manifests"
"""The workshop's own manifests, a folder a release."""

DIRECTORY = "LABKIT_ISTIO_DIR"
"""Environment variable: a release folder, or a folder of them (…/istio-1.2.2, …/istio-1.30.3)."""

_VERSION = re.compile(r"\bistio/pilot:([\w.-]+)")


@dataclass(frozen=True)
class Release:
    """A release and its files.

    Args:
        facts: What is known of it.
        path: Its folder, with the release's own layout.
        source: Where the folder is from: "workshop", "archive" or "directory".
    """

    facts: Facts
    path: Path
    source: Literal["workshop", "archive", "directory"]

    @property
    def version(self) -> str:
        """Its version."""
        return self.facts.version

    @property
    def namespace(self) -> str:
        """Where Istio is installed."""
        return releases.NAMESPACE

    @cached_property
    def crd_files(self) -> tuple[Path, ...]:
        """Files with the CRDs, in the order to apply."""
        return self._manifests[0]

    @cached_property
    def demo_files(self) -> tuple[Path, ...]:
        """Files of the demo profile, in the order to apply."""
        return self._manifests[1]

    @property
    def addon_files(self) -> tuple[Path, ...]:
        """Files of the add-ons that the demo profile does not bring (none in 1.2.2)."""
        return tuple(self.path / name for name in self.facts.layout.addons)

    @property
    def samples(self) -> Path:
        """The folder of the samples."""
        return self.path / "samples"

    @property
    def components(self) -> tuple[Component, ...]:
        """Workloads expected in namespace istio-system, add-ons included."""
        return self.facts.components

    @property
    def services(self) -> tuple[Service, ...]:
        """Services expected there."""
        return self.facts.services

    @cached_property
    def _manifests(self) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        layout = self.facts.layout
        crds, demo = (tuple(self.path / name for name in names) for names in (layout.crds, layout.demo))
        if all(file.exists() for file in (*crds, *demo)):
            return crds, demo
        # Official archives of today hold charts, which istioctl renders.
        istioctl = self.path / "bin/istioctl"
        if istioctl.exists():
            return tuple(sorted(self.path.glob("manifests/charts/base/files/crd-all*.yaml"))), (self._render(istioctl),)
        own = OWN / self.version
        return tuple(own / name for name in layout.crds), tuple(own / name for name in layout.demo)

    def _render(self, istioctl: Path) -> Path:
        rendered = config.home() / "releases" / f"istio-{self.version}-demo.yaml"
        if rendered.exists():
            return rendered
        command = [str(istioctl), "manifest", "generate", "--set", "profile=demo"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ReleaseError(
                f"{istioctl} cannot be run: {error}", next_step="Is the archive for this machine?"
            ) from None
        if done.returncode:
            raise ReleaseError(
                f"`istioctl manifest generate --set profile=demo` failed: {done.stderr.strip()}",
                next_step="Take the workshop's own manifests: `istio.release(VERSION)`.",
            )
        rendered.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.write(rendered, done.stdout.encode())
        return rendered


def release(version: str = config.DEFAULT_RELEASE, directory: str | Path | None = None) -> Release:
    """A release and its files: the workshop's own manifests, unless a folder is given.

    Args:
        version: "1.30.3" (default) or "1.2.2".
        directory: An unpacked release, or a folder that holds it as `istio-VERSION`; by default `$LABKIT_ISTIO_DIR`,
            else the workshop's own manifests, which need no network.

    Raises:
        SettingError: The course does not teach that release.
        ReleaseError: The folder is not that release; the message says what is missing.
    """
    facts = releases.facts(version)
    given = directory or os.environ.get(DIRECTORY)
    if not given:
        return Release(facts, OWN / version, "workshop")
    folder = Path(given).expanduser().absolute()
    inner = folder / f"istio-{version}"
    return Release(facts, _checked(facts, inner if inner.is_dir() else folder), "directory")


def download(version: str = config.DEFAULT_RELEASE, *, base_url: str = "") -> Release:
    """A release from its official archive, fetched with a progress bar if it is not there yet.

    An interrupted download goes on where it stopped; the archive is checked against its published SHA-256 and unpacked
    below `$LABKIT_HOME/releases`.

    Args:
        version: "1.30.3" (default) or "1.2.2".
        base_url: A mirror's address; "" for `$LABKIT_ISTIO_DOWNLOADS`, else Istio's own.

    Raises:
        SettingError: The course does not teach that release.
        ReleaseError: It cannot be had, or is not what its checksum says.
    """
    from labkit.istio import fetch

    facts = releases.facts(version)
    return Release(facts, _checked(facts, fetch.fetch(facts, base_url=base_url)), "archive")


def _checked(facts: Facts, folder: Path) -> Path:
    if not folder.is_dir():
        raise ReleaseError(
            f"{folder} is no folder",
            next_step=f"Unpack the archive of Istio {facts.version} there, or leave the folder out.",
        )
    missing = [name for name in facts.layout.marks if not (folder / name).is_file()]
    if missing:
        raise ReleaseError(
            f"{folder} is not Istio {facts.version}: it has no {', no '.join(missing)}",
            next_step=f"Name the folder that holds {missing[0].split('/')[0]}/, usually istio-{facts.version}.",
        )
    found = _version(folder / facts.layout.version_in) or _archive_version(folder)
    if found and found != facts.version:
        raise ReleaseError(
            f"{folder} is Istio {found}, not {facts.version}",
            next_step="Two versions in one cluster go wrong in odd ways: name the folder of the release you chose.",
        )
    return folder


def _version(file: Path) -> str:
    if not file.is_file():
        return ""
    found = _VERSION.search(file.read_text(errors="replace"))
    return found[1] if found else ""


def _archive_version(folder: Path) -> str:
    # Archives of today say it in a file of their own.
    file = folder / "manifest.yaml"
    if not file.is_file():
        return ""
    found = re.search(r"^version: *[\"']?([\w.-]+)", file.read_text(errors="replace"), re.MULTILINE)
    return found[1] if found else ""
