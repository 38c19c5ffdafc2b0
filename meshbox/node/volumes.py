# SPDX-License-Identifier: Apache-2.0
"""A pod's volumes as folders, and a container's "/" made of links to them.

A process without a mount namespace cannot see a volume at its mount path. Each container has a root folder in which
every mount path is a link to the volume; it is the container's working directory, and $LABKIT_ROOT names it.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar, cast

from labkit.ground.files import write
from meshbox.contracts import Objects
from meshbox.node.environment import ConfigError, field, resource_field
from meshbox.settings import SandboxSettings
from meshbox.tokens import Tokens

if TYPE_CHECKING:
    from meshbox.typed.containers import Container
    from meshbox.typed.pods import Pod
    from meshbox.typed.volumes import (
        ConfigMapProjection,
        ConfigMapVolumeSource,
        HostPathVolumeSource,
        SecretProjection,
        SecretVolumeSource,
        Volume,
        VolumeProjection,
    )

    _Keys = ConfigMapVolumeSource | ConfigMapProjection | SecretVolumeSource | SecretProjection

__all__ = ["ITSELF", "MountError", "Volumes", "references"]

_T = TypeVar("_T")

_SOURCES = {"emptyDir", "configMap", "secret", "projected", "downwardAPI", "hostPath", "persistentVolumeClaim"}


class MountError(ConfigError):
    """A volume cannot be set up (yet); the message is the kubelet's own."""


_Reference = tuple[str, str]
"""Resource and name, e.g. ("configmaps", "istio")."""

ITSELF: _Reference = ("pods", "")
"""The pod that a volume of the downward API shows."""


def references(pod: Pod) -> set[_Reference]:
    """The ConfigMaps and Secrets that the pod's volumes show, and `ITSELF` where they show the pod's own fields."""
    return {reference for volume in _volumes(pod) for reference in _shown(volume)}


def _shown(volume: Volume) -> Iterator[_Reference]:
    sources: list[Volume | VolumeProjection] = [volume, *((volume.get("projected") or {}).get("sources") or [])]
    for source in sources:
        if config := source.get("configMap"):
            yield "configmaps", config.get("name", "")
        if secret := source.get("secret"):
            yield "secrets", _secret_name(secret)
        if source.get("downwardAPI"):
            yield ITSELF


def _secret_name(secret: SecretVolumeSource | SecretProjection) -> str:
    # A volume and a part of a projected one name it differently.
    return cast("SecretVolumeSource", secret).get("secretName") or cast("SecretProjection", secret).get("name", "")


class Volumes:
    """The volumes of one pod.

    Args:
        objects: Where ConfigMaps and Secrets are.
        folder: The pod's folder.
        settings: The sandbox; `home`/host plays the node's file system for hostPath volumes.
        allocatable: What a container without limits may use, for the downward API.
    """

    def __init__(
        self, objects: Objects, folder: Path, settings: SandboxSettings, allocatable: Mapping[str, str]
    ) -> None:
        self._objects = objects
        self._folder = folder
        self._host = settings.home / "host"
        self._settings = settings
        self._tokens = Tokens(settings.token)
        self._allocatable = allocatable
        self._writing = threading.Lock()
        self._plans = 0
        self._written: dict[str, int] = {}
        self._shows: set[str] = set()

    async def set_up(self, pod: Pod) -> None:
        """Make every volume of `pod`.

        Raises:
            MountError: one of them shows something that is not there, or is of a kind this node does not have.
        """
        await _beside(partial(self._write, *self._planned(pod, _volumes(pod))))

    def refresh(self, pod: Pod, changed: _Reference) -> None:
        """Bring the volumes of `pod` up to date that show the object `changed`.

        Raises:
            MountError: as `set_up`.
        """
        self._write(*self._planned(pod, [volume for volume in _volumes(pod) if changed in _shown(volume)]))

    def _planned(self, pod: Pod, volumes: Iterable[Volume]) -> tuple[int, list[tuple[str, Callable[[], None]]]]:
        """A number that grows, and each volume's name and how to make it; the objects that it shows are read here."""
        steps = [(volume["name"], _told(volume["name"], partial(self._plan, pod, volume))) for volume in volumes]
        self._plans += 1
        return self._plans, steps

    def _write(self, number: int, steps: list[tuple[str, Callable[[], None]]]) -> None:
        with self._writing:
            for name, make in steps:
                # A plan whose objects have changed since must not undo the one made after it.
                if number > self._written.get(name, 0):
                    _told(name, make)
                    self._written[name] = number

    def _plan(self, pod: Pod, volume: Volume) -> Callable[[], None]:
        kinds = [kind for kind in volume if kind != "name"]
        kind = kinds[0] if kinds else "emptyDir"
        if kind not in _SOURCES:
            raise ConfigError(f"this node has no volumes of type {kind}; it has {', '.join(sorted(_SOURCES))}")
        path = self.path(volume["name"])
        if kind in ("hostPath", "persistentVolumeClaim"):
            folder = volume["hostPath"] if kind == "hostPath" else self._claimed(pod, volume)
            real = self._host / _inside(folder["path"])
            is_file = folder.get("type") in ("File", "FileOrCreate")
            return partial(_link_to_host, path, real, is_file=is_file)
        if kind == "emptyDir":
            return partial(path.mkdir, parents=True, exist_ok=True, mode=0o700)
        self._shows.add(volume["name"])
        sources: Sequence[Volume | VolumeProjection] = [volume]
        if kind == "projected":
            sources = volume["projected"].get("sources") or []
        return partial(_write_all, path, {name: data for item in sources for name, data in self._files(pod, item)})

    def _claimed(self, pod: Pod, volume: Volume) -> HostPathVolumeSource:
        """The folder of the PersistentVolume that a claim is bound to."""
        name = volume["persistentVolumeClaim"]["claimName"]
        claim = self._objects.find("persistentvolumeclaims", name, pod["metadata"].get("namespace"))
        if claim is None:
            raise ConfigError(f'persistentvolumeclaim "{name}" not found')
        if (claim.get("status") or {}).get("phase") != "Bound":
            raise ConfigError(f'PVC "{name}" is not bound')
        spec = (self._objects.find("persistentvolumes", claim["spec"]["volumeName"]) or {}).get("spec") or {}
        found: HostPathVolumeSource | None = spec.get("hostPath") or spec.get("local")
        if found is None:
            raise ConfigError("this node has no PersistentVolumes but those of type hostPath and local")
        return found

    def path(self, volume: str) -> Path:
        """Where the volume is."""
        return self._folder / "volumes" / volume

    def _files(self, pod: Pod, source: Volume | VolumeProjection) -> Iterator[tuple[str, tuple[bytes, int]]]:
        namespace = pod["metadata"].get("namespace", "default")
        if (config := source.get("configMap")) is not None:
            yield from self._keys("configmaps", config.get("name", ""), namespace, config)
        elif (secret := source.get("secret")) is not None:
            yield from self._keys("secrets", _secret_name(secret), namespace, secret)
        elif (downward := source.get("downwardAPI")) is not None:
            for item in downward.get("items") or []:
                if "fieldRef" in item:
                    value = field(pod, item["fieldRef"]["fieldPath"])
                else:
                    value = resource_field(
                        pod, pod["spec"]["containers"][0], item["resourceFieldRef"], self._allocatable
                    )
                yield item["path"], (value.encode(), item.get("mode", 0o644))
        elif (token := cast("VolumeProjection", source).get("serviceAccountToken")) is not None:
            # One meant for another audience, such as Istio's CA, must not open the API.
            value = self._settings.xds_token if token.get("audience") else self._account_token(pod, namespace)
            yield token["path"], (value.encode(), 0o600)

    def _account_token(self, pod: Pod, namespace: str) -> str:
        name = pod["spec"].get("serviceAccountName", "default")
        account = self._objects.find("serviceaccounts", name, namespace)
        return self._tokens.of_account(namespace, name, account["metadata"]["uid"] if account else "")

    def _keys(self, resource: str, name: str, namespace: str, source: _Keys) -> Iterator[tuple[str, tuple[bytes, int]]]:
        found = self._objects.find(resource, name, namespace)
        optional = bool(source.get("optional"))
        if found is None:
            if optional:
                return
            raise ConfigError(f'{resource.removesuffix("s")} "{name}" not found')
        data = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        for key, value in (found.get("data") or {}).items():
            data[key] = base64.b64decode(value) if resource == "secrets" else value.encode()
        mode = cast("SecretVolumeSource", source).get("defaultMode") or 0o644
        if "items" not in source or source["items"] is None:
            yield from ((key, (value, mode)) for key, value in data.items())
            return
        for item in source["items"]:
            if item["key"] in data:
                yield item["path"], (data[item["key"]], item.get("mode") or mode)
            elif not optional:
                raise ConfigError(f"references non-existent {resource.removesuffix('s')} key: {item['key']}")

    async def root(self, container: Container) -> tuple[Path, dict[str, Path]]:
        """The folder that plays the container's "/", emptied and laid out; and mount path → where it leads.

        Raises:
            MountError: a mount names no volume, or leaves it.
        """
        return await _beside(partial(self._laid_out, container))

    def _laid_out(self, container: Container) -> tuple[Path, dict[str, Path]]:
        # Here, and not where the log is opened: a folder takes its time while all pods start.
        (self._folder / "logs" / container["name"]).mkdir(parents=True, exist_ok=True, mode=0o700)
        root = self._folder / "containers" / container["name"] / "root"
        shutil.rmtree(root, ignore_errors=True)
        for folder in ("tmp", "root", "dev"):
            (root / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        mounts: dict[str, Path] = {}
        # A path above another first, so that the other finds it there.
        for mount in sorted(
            container.get("volumeMounts") or [], key=lambda item: len(PurePosixPath(item["mountPath"]).parts)
        ):
            target, where = self.path(mount["name"]), "/" + str(_inside(mount["mountPath"]))
            if not target.exists():
                raise MountError(f'cannot find volume "{mount["name"]}" to mount into container "{container["name"]}"')
            if sub := mount.get("subPath"):
                target = target / _inside(sub)
                if mount["name"] in self._shows and target.exists():
                    target = _copied(
                        target, self._folder / "containers" / container["name"] / "subpaths" / str(len(mounts))
                    )
                if not target.exists():
                    target.mkdir(parents=True, mode=0o700)
            mounts[where] = target
            if where != "/.":
                _link(root / where.lstrip("/"), target)
        return root, mounts


async def _beside(work: Callable[[], _T]) -> _T:
    """What `work` returns, done in a thread: a disk may take a millisecond a file, and all pods start at once.

    Whoever is cancelled meanwhile is so once it is done: nothing is written into a folder that is being removed.
    """
    doing = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise


def _volumes(pod: Pod) -> list[Volume]:
    return pod["spec"].get("volumes") or []


def _told(volume: str, work: Callable[[], _T]) -> _T:
    """What `work` returns; whatever it fails of is said of the volume, in the kubelet's words."""
    try:
        return work()
    except MountError:
        raise
    except (ConfigError, OSError) as error:
        raise MountError(f'MountVolume.SetUp failed for volume "{volume}" : {_reason(error)}') from error


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, ConfigError) else str(error)


def _inside(path: str) -> PurePosixPath:
    """`path` as a relative one that cannot lead out of the folder it is joined to."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", ".")]
    if ".." in parts:
        raise MountError(f'"{path}" must not contain ".."')
    return PurePosixPath(*parts)


def _link_to_host(path: Path, real: Path, *, is_file: bool) -> None:
    if is_file:
        real.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        real.touch(mode=0o600)
    else:
        real.mkdir(parents=True, exist_ok=True, mode=0o700)
    _link(path, real)


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.is_symlink():
        if path.readlink() == target:
            return
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    path.symlink_to(target)


def _copied(shown: Path, copy: Path) -> Path:
    """A container's own copy of a part of what objects show: that never follows them while the container runs."""
    if copy.is_dir():
        shutil.rmtree(copy)
    copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if shown.is_dir():
        shutil.copytree(shown, copy)
    else:
        shutil.copy2(shown, copy)
    return copy


def _write_all(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Make `folder` hold exactly `files`; each is replaced in one step, so that no reader sees half of it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = set()
    for name, (data, mode) in files.items():
        path = folder / _inside(name)
        wanted.add(path)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.is_file() and path.read_bytes() == data:
            continue
        write(path, data, mode=0o600 | mode & 0o700, lasting=False)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path not in wanted:
            path.unlink()
