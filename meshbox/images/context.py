# SPDX-License-Identifier: Apache-2.0
"""The words that the node and the images share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    # A container's own process loads this module, and needs none of what settings bring.
    from meshbox.settings import SandboxSettings
    from meshbox.typed.containers import Container
    from meshbox.typed.pods import Pod

__all__ = ["ContainerContext", "Image", "ImageName", "Launch", "Runner"]


@dataclass(frozen=True)
class ImageName:
    """The parts of an image reference, e.g. "docker.io/istio/pilot:1.2.2".

    Args:
        registry: "docker.io" unless the reference names one.
        repository: The path below it; "library/…" where Docker adds that.
        tag: "latest" unless given; empty where a digest is given.
        digest: "sha256:…" or empty.
    """

    registry: str
    repository: str
    tag: str = "latest"
    digest: str = ""

    @classmethod
    def parse(cls, reference: str) -> ImageName:
        """Take `reference` apart by Docker's rules.

        Raises:
            ValueError: it is not a reference, e.g. it is empty or has capitals in its path.
        """
        rest, _, digest = reference.partition("@")
        first, slash, path = rest.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            registry, rest = first, path
        else:
            registry = "docker.io"
        repository, _, tag = rest.partition(":")
        if registry == "docker.io" and "/" not in repository:
            repository = f"library/{repository}"
        name = repository.removeprefix("library/")
        if not name or name != name.lower() or any(c.isspace() for c in reference) or rest.endswith((":", "/")):
            raise ValueError(f"invalid reference format: {reference!r}")
        return cls(registry, repository, tag or ("" if digest else "latest"), digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True)
class ContainerContext:
    """What a runner knows about the container it is asked to start, or to run a command in.

    Args:
        pod: The Pod; its status holds podIP.
        container: The container's spec.
        image: The image's name.
        argv: The whole command line: the pod's command and args, or the image's own, variables expanded.
        env: The container's environment.
        settings: The sandbox.
        pod_ip: The pod IP.
        local_ip: The address that stands for localhost inside the pod.
        bind: The address an application binds: `local_ip` behind a sidecar, else `pod_ip`.
        root: The folder that plays the container's "/", private to the container.
        mounts: Mount path → where the volume (or its subPath) really is.
        init: Whether this is an init container (a native sidecar included).
    """

    pod: Pod
    container: Container
    image: ImageName
    argv: tuple[str, ...]
    env: Mapping[str, str]
    settings: SandboxSettings
    pod_ip: str
    local_ip: str
    bind: str
    root: Path
    mounts: Mapping[str, Path] = field(default_factory=dict)
    init: bool = False

    def path(self, inside: str) -> Path:
        """Where the absolute path `inside` the container really is."""
        return self.root / inside.lstrip("/")

    @property
    def namespace(self) -> str:
        """The pod's namespace."""
        return str(self.pod["metadata"].get("namespace", "default"))


@dataclass(frozen=True)
class Launch:
    """How to start a process: a forked Python function, or a program.

    Args:
        entry: "module:function" of a Python function without arguments; what it returns is the exit code (None: 0).
        argv: The command line: `sys.argv` of `entry`, else the program (absolute, or found on PATH) and its arguments.
        env: Variables to add to the container's own.
        drain: Awaited before SIGTERM when the pod ends, so that what is in flight can finish; cut short at the end of
            the grace period.
    """

    entry: str = ""
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    drain: Callable[[], Awaitable[None]] | None = None


class Runner(Protocol):
    """Decides what a command of an image runs as."""

    def __call__(self, context: ContainerContext, /) -> Launch:
        """How `context.argv` is started."""


@dataclass(frozen=True)
class Image:
    """A container image.

    Args:
        repositories: The paths below a registry that it is known by, e.g. ("istio/pilot", "istio-release/pilot").
        entrypoint: The command where the pod gives none.
        cmd: The arguments where the pod gives neither command nor args.
        programs: Base name of each program inside the image → how it runs.
        env: The image's own variables.
        modules: Modules that its runners' entries are in, to be loaded once for all pods where most sandboxes have it.
        size: Bytes, as the node's status shows it.
        stands_in: What the learner is told about it, e.g. "stand-in: health pages only".
    """

    repositories: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    programs: Mapping[str, str | Runner] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    size: int = 20_000_000
    stands_in: str = ""

    def command_line(self, command: list[str], args: list[str]) -> tuple[str, ...]:
        """The command line that a container with `command` and `args` runs, by Kubernetes' rules."""
        if command:
            return (*command, *args)
        return (*self.entrypoint, *(args or self.cmd))
