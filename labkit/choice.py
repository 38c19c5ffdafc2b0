# SPDX-License-Identifier: Apache-2.0
"""What the course runs on: an Istio release and a cluster, chosen once and kept for every notebook."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from labkit import display, user
from labkit.ground import config, files, sandboxes
from labkit.ground.errors import SettingError

__all__ = ["SANDBOX", "Choice", "choose", "chosen", "file"]

SANDBOX = "sandbox"
"""The target that is no context of a kubeconfig: a sandbox of the release, on this machine."""

_MOST_BYTES = 4096


@dataclass(frozen=True)
class Choice(display.Shown):
    """What a lesson runs on.

    Args:
        release: The Istio release, "1.2.2" or "1.30.3".
        target: "sandbox", or a context of the user's kubeconfig.
        kept: Which of the two the kept choice says: some of "release" and "target".
        note: What the user should know of it: that the file is damaged, when it takes effect; mostly "".
    """

    release: str
    target: str
    kept: frozenset[str] = frozenset()
    note: str = ""

    def rich(self) -> display.Rich:
        """As one line to show."""
        where = "the sandbox" if self.target == SANDBOX else f"the context {self.target!r}"
        said = f"The course runs on Istio {self.release}, on {where}."
        return display.message(f"{said}\n{self.note}" if self.note else said, "note")


def file() -> Path:
    """Where the choice is kept (0600): in `$LABKIT_HOME`, for all folders and environments of this user."""
    return config.home() / "choice.json"


def chosen(release: str = "", target: str = "") -> Choice:
    """What a lesson runs on: what is said here, else what was chosen for the course, else the default.

    Where nothing was chosen, a sandbox that is there already decides on the release: the one that `$KUBECONFIG` names,
    else the one named "default". No cluster is asked and no process started.

    Args:
        release: An Istio release; "" for the course's.
        target: "sandbox" or a context of the user's kubeconfig; "" for the course's.

    Raises:
        SettingError: The course does not teach this release.
    """
    kept, note = _read()
    there = (sandboxes.release(name) for name in (user.sandbox(), sandboxes.DEFAULT) if name)
    return Choice(
        config.taught(release) if release else kept.get("release") or next(filter(None, there), config.DEFAULT_RELEASE),
        target or kept.get("target") or SANDBOX,
        frozenset(kept),
        note,
    )


def choose(release: str = "", target: str = "") -> Choice:
    """Choose what the course runs on from now on, in every notebook that says nothing else; it is kept.

    No sandbox is started or ended: the next lesson that begins starts the release's own, or finds it.

    Args:
        release: An Istio release, "1.2.2" or "1.30.3"; "" leaves it as it was.
        target: "sandbox" or a context of the user's kubeconfig; "" leaves it as it was.

    Returns:
        What the course runs on now.

    Raises:
        SettingError: The course does not teach this release, there is no such context, or it cannot be kept.
    """
    new = {"release": config.taught(release)} if release else {}
    if target:
        if target != SANDBOX:
            # Asks kubectl; a sandbox needs nothing of it.
            from labkit.cluster.kubeconfig import Target, minified

            minified(Target.from_environment(target))
        new["target"] = target
    if new:
        try:
            # Who changes one of the two words keeps the other, also when somebody else changes that at the same moment.
            with files.alone(file().with_suffix(".lock")):
                files.write(file(), json.dumps(_read()[0] | new, indent=1).encode() + b"\n")
        except OSError as error:
            raise SettingError(
                f"the choice cannot be kept in {file()}: {error.strerror}",
                next_step="Set LABKIT_HOME to a folder of yours with free space.",
            ) from None
    return replace(chosen(), note="A lesson that has begun goes on as it is; begin it again to take this up.")


def _read() -> tuple[dict[str, str], str]:
    """What is kept, as far as it is sound, and a sentence about what is not."""
    path = file()
    try:
        said = json.loads(files.read(path, _MOST_BYTES))
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"What was chosen cannot be read: {path}: {error.strerror}."
    except (ValueError, RecursionError):
        said = None
    words = said if isinstance(said, dict) else {}
    sound = {
        name: word
        for name, word in words.items()
        if isinstance(word, str) and word and (name == "target" or (name == "release" and word in config.RELEASES))
    }
    if sound.keys() >= words.keys() and words:
        return sound, ""
    return sound, f"What was chosen is damaged and counts no more: {path}; `course.choose(…)` keeps it anew."
