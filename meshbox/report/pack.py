# SPDX-License-Identifier: Apache-2.0
"""Gathers what there is of a sandbox, in whatever state it is, and packs it."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from labkit import __version__
from labkit.ground import files
from labkit.ground.errors import LabError, SandboxError
from meshbox import control, tools
from meshbox.program import program
from meshbox.report.secrecy import MARK, Secrecy
from meshbox.settings import proxies_token

__all__ = ["Report", "pack"]

_LOG_BYTES, _POD_LOG_BYTES = 2 << 20, 128 << 10
"""Bytes of the end of the daemon's log, and of each container's, that are packed."""

_MOST_PODS = 200

_PARTS = {
    "versions.json": "labkit, Python, the system, and the libraries that labkit needs",
    "doctor.json": "what `doctor` finds on this machine: Envoy, Prometheus, kubectl and more, with their versions",
    "status.json": "what `status --json` says",
    "logs/": "the daemon's log and those of the pods' containers, their last part",
    "objects/": "the objects, a file for each kind, events included",
}


_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
_IN_KUBECONFIG = re.compile(r"(?:token|password|client-key-data)\"?:\s*\"?([^\s\",]+)")


@dataclass
class Report:
    """A report that was packed.

    Args:
        path: The file.
        size: Its bytes.
        inside: The names in it.
        missing: What could not be packed, and why.
    """

    path: Path
    size: int = 0
    inside: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = sum(name.startswith("objects/") for name in self.inside)
        logs = sum(name.startswith("logs/") for name in self.inside)
        lines = [
            f"{self.path} ({self.size / 1024:.0f} kB, readable by you only)",
            f"inside: versions, doctor's findings, status, {logs} logs, objects of {kinds} kinds (events included)",
            f"left out: what Secrets hold, tokens, keys, passwords and what looks like them (each is {MARK} there)",
            *(f"not packed: {one}" for one in self.missing),
            "It stays here: nothing is sent anywhere. Look through it before you give it to somebody.",
        ]
        return "\n".join(lines)


def pack(name: str = "default", out: Path | None = None) -> Report:
    """Pack what is needed to find a fault of sandbox `name`, whether it runs, is stopped, crashed or damaged.

    Args:
        name: Which sandbox; one that is not there has versions and findings only.
        out: The file to write; None for one in the current folder, named after the sandbox and the time.

    Raises:
        SettingError: `name` cannot be a sandbox's.
        SandboxError: the file cannot be written, or is there already.
    """
    home = control.folder(name)
    path = out or Path(f"{program()}-report-{name}-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz")
    gathering = _Gathering(name, home)
    contents = gathering.all()
    report = Report(path.absolute(), missing=gathering.missing)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for inside, text in contents.items():
                content = text.encode(errors="replace")
                entry = tarfile.TarInfo(f"report/{inside}")
                entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
                archive.addfile(entry, io.BytesIO(content))
    except FileExistsError:
        raise SandboxError(f"{path} is there already", next_step="name another file: --out FILE") from None
    except OSError as error:
        path.unlink(missing_ok=True)
        raise SandboxError(
            f"{path} cannot be written: {error.strerror or error}", next_step="name a file elsewhere: --out FILE"
        ) from error
    report.inside, report.size = list(contents), path.stat().st_size
    return report


class _Gathering:
    """One look at a sandbox.

    Args:
        name: Its name.
        home: Its folder.
    """

    def __init__(self, name: str, home: Path) -> None:
        self._name = name
        self._home = home
        self._secrecy = Secrecy()
        self._objects: dict[str, list[Any]] = {}
        self.missing: list[str] = []

    def all(self) -> dict[str, str]:
        """Each file's name and text."""
        if self._home.is_dir():
            self._part("objects", self._read_objects)
            self._part("the sandbox's own secrets (whatever holds them is left out)", self._learn_files)
        else:
            self.missing.append(f"logs and objects: there is no sandbox {self._name!r}")
        found: dict[str, str] = {}
        for inside, make in (
            ("versions.json", _versions),
            ("doctor.json", lambda: [vars(one) for one in tools.examine()]),
            ("status.json", lambda: control.status(self._name, healing=True).as_dict()),
        ):
            value = self._part(inside, make)
            if value is not None:
                found[inside] = json.dumps(self._secrecy.object("", {"is": value})["is"], indent=1, default=str)
        for resource, objects in sorted(self._objects.items()):
            hidden = [self._secrecy.object(resource, one) for one in objects]
            found[f"objects/{resource}.json"] = json.dumps(hidden, indent=1, ensure_ascii=False)
        for inside, file, most in self._logs():
            text = self._part(f"{file}", lambda file=file, most=most: _end_of(file, most))  # type: ignore[misc]
            if text:
                found[inside] = self._secrecy.text(text)
        contents = {inside: self._secrecy.without_known(text) for inside, text in found.items()}
        said = [f"{inside}: {what}" for inside, what in _PARTS.items()]
        told = [*said, *(self._secrecy.text(f"not packed: {one}") for one in self.missing)]
        return {"README.txt": "\n".join([f"A report of sandbox {self._name!r}.", *told, ""]), **contents}

    def _part(self, what: str, make: Callable[[], Any]) -> Any:
        """What `make` gives; whatever keeps it from that is told, and the rest is packed."""
        try:
            return make()
        except LabError as error:
            self.missing.append(f"{what}: {error.message}")
        except OSError as error:
            self.missing.append(f"{what}: {error.strerror or error}")
        except Exception:
            self.missing.append(f"{what}: it could not be understood")
        return None

    def _read_objects(self) -> None:
        """The objects as the journal has them: also where nothing answers any more."""
        from meshbox.api.journal import format as journal_format
        from meshbox.api.journal import legacy
        from meshbox.api.loading import head_of, load
        from meshbox.api.setting_aside import FOLDER

        path = self._home / "objects" / "journal.jsonl"
        content = path.read_bytes()
        reading = legacy.read(content) if legacy.is_legacy(content) else journal_format.read(content)
        for payload in reading.payloads():
            try:
                head, raw = head_of(payload)
                # What was deleted since may stand in a log all the same.
                self._secrecy.learn_object(head.resource, json.loads(raw) if raw else None)
            except (ValueError, RecursionError):
                continue
        loaded = load(reading)
        for (resource, _), (obj, _, _) in loaded.objects.items():
            self._objects.setdefault(resource, []).append(obj)
        self.missing += [f"objects: {path}: {damage}" for damage in reading.damages]
        if aside := len(list((self._home / "objects" / FOLDER).glob("*.json"))):
            self.missing.append(f"{aside} objects that were set aside: what in them is secret cannot be told")
        if loaded.aside:
            self.missing.append(f"{len(loaded.aside)} records of objects that could not be understood")

    def _learn_files(self) -> None:
        for file in self._home.rglob("*"):
            first = file.relative_to(self._home).parts[0]
            if first in ("objects", "pods", "kiali") or file.name.startswith("daemon.log") or not file.is_file():
                continue
            try:
                text = files.read(file).decode(errors="replace")
            except (OSError, ValueError):
                # Nor could whoever wrote a log have read it.
                continue
            if file.name in ("token", "identity"):
                self._secrecy.learn(text)
                self._secrecy.learn(proxies_token(text.strip()))
            for key in _PRIVATE.findall(text):
                self._secrecy.learn(key)
            for value in _IN_KUBECONFIG.findall(text) if file.name == "kubeconfig" else ():
                self._secrecy.learn(value)

    def _logs(self) -> Iterator[tuple[str, Path, int]]:
        for file in sorted(self._home.glob("daemon.log*")):
            yield f"logs/{file.name}", file, _LOG_BYTES
        for file in sorted((self._home / "objects").glob("recovered-*.txt")):
            yield f"logs/{file.name}", file, _LOG_BYTES
        named = {
            one["metadata"]["uid"]: f"{one['metadata'].get('namespace')}.{one['metadata']['name']}"
            for one in self._objects.get("pods", ())
            if isinstance(one["metadata"].get("uid"), str)
        }
        folders = sorted((self._home / "pods").glob("*/logs/*"))
        if len(folders) > _MOST_PODS:
            self.missing.append(f"logs of {len(folders) - _MOST_PODS} containers: only {_MOST_PODS} are packed")
        for folder in folders[:_MOST_PODS]:
            uid = folder.parent.parent.name
            for file in sorted(folder.glob("*.log")):
                yield f"logs/pods/{named.get(uid, uid)}/{folder.name}-{file.name}", file, _POD_LOG_BYTES


def _end_of(file: Path, most: int) -> str:
    with open(file, "rb") as opened:
        opened.seek(max(0, file.stat().st_size - most))
        return opened.read(most).decode(errors="replace")


def _versions() -> dict[str, Any]:
    return {
        "labkit": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "kernel": platform.release(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "libraries": _libraries("mesh-workshop"),
    }


def _libraries(name: str) -> dict[str, str]:
    """The version of each library that `name` needs, and of those that they need."""
    found: dict[str, str] = {}
    left = [name]
    while left:
        one = re.split(r"[ \[;<>=!~(]", left.pop(), maxsplit=1)[0].lower().replace("_", "-")
        if not one or one in found:
            continue
        try:
            distribution = metadata.distribution(one)
        except metadata.PackageNotFoundError:
            continue
        found[one] = distribution.version
        left += distribution.requires or ()
    return dict(sorted(found.items()))
