# SPDX-License-Identifier: Apache-2.0
"""`labkit lab`: JupyterLab on a learner's copy, with the sandbox of what the course runs on."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labkit import sandbox, user
from labkit.choice import SANDBOX, Choice, choose, chosen
from labkit.cluster.kubeconfig import Target, environment
from labkit.course import translations
from labkit.course.folder import notebooks
from labkit.ground import sandboxes
from labkit.ground.errors import SettingError
from labkit.ground.language import LANGUAGES, SOURCE, speaking, told, translated
from labkit.lab import copies
from labkit.lab.start import START

__all__ = ["JUPYTER", "command", "main", "surroundings"]

_OF_JUPYTER = Path(__file__).resolve().parents[1] / "ui" / "jupyter"
JUPYTER = {"JUPYTER_PATH": _OF_JUPYTER / "share" / "jupyter", "JUPYTER_CONFIG_PATH": _OF_JUPYTER / "etc" / "jupyter"}
"""What Jupyter reads of a checkout; copies of it in an editable install may be older. A wheel has it where Jupyter
looks, and no such folder.
"""


def main(
    *, folder: Path | None, fresh: bool, release: str, target: str, arguments: Sequence[str], language: str = ""
) -> int:
    """`labkit lab`: prepare the copy and the sandbox, then go on as JupyterLab.

    Args:
        folder: Of the learner's copy; None for `workshop`, or `workshop-zh` in the language zh.
        fresh: Whether to begin it anew.
        release: An Istio release to choose for the course; "" leaves the choice as it is.
        target: "sandbox" or a context of the user's kubeconfig; "" leaves the choice as it is.
        arguments: Of JupyterLab.
        language: Of the copy; "" for the one that it is in, or that `$LABKIT_LANG` asks for.

    Raises:
        LabError: The choice, the language or the folder cannot be used.
        OSError: The copy cannot be written.
    """
    what = choose(release, target) if release or target else chosen()
    copy, language = _copy(folder, fresh, language)
    with speaking(language):
        print(*map(translated, copy.lines()), what, sep="\n", flush=True)
    kubeconfig = _sandbox(what) if what.target == SANDBOX else ""
    if os.geteuid() == 0:
        print(_as_root(arguments), flush=True)
    sys.stdout.flush()
    around = surroundings(kubeconfig) | {"LABKIT_LANG": language}
    os.execve(sys.executable, command(copy.folder, arguments), around)


def _copy(folder: Path | None, fresh: bool, language: str) -> tuple[copies.Copy, str]:
    """The learner's copy, and what it is in."""
    asked = translations.known(language or told() or SOURCE)
    folder = folder or Path("workshop" if asked == SOURCE else f"workshop-{asked}")
    own = copies.language(folder)
    if not own or fresh:
        own = asked
    elif language and own != asked:
        raise SettingError(
            f"{folder} is a copy in {LANGUAGES[own]}, and stays one",
            next_step=f"`labkit lab DIR --lang {asked}` makes another; `--fresh` starts anew and keeps yours aside.",
        )
    if own == SOURCE:
        return copies.prepare(folder, fresh=fresh), own
    with tempfile.TemporaryDirectory() as made:
        translations.write(own, notebooks(), Path(made))
        return copies.prepare(folder, fresh=fresh, source=Path(made), language=own), own


def command(folder: Path, arguments: Sequence[str]) -> list[str]:
    """JupyterLab's command line; what the user says comes last, and counts.

    Args:
        folder: Of the learner's copy.
        arguments: The user's.
    """
    return [
        *(sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"),
        f"--LabApp.default_url=/lab/tree/{START}",
        # How a learner arranges windows belongs to the copy: another one has other files.
        f"--LabApp.workspaces_dir={folder / copies.KEEPING / 'workspaces'}",
        *(["--allow-root"] if os.geteuid() == 0 else []),
        *arguments,
    ]


def surroundings(kubeconfig: str) -> dict[str, str]:
    """JupyterLab's environment: terminals and tiles get the sandbox, else nothing, and a context that TARGET names is
    looked for in the reader's own kubeconfig.

    Args:
        kubeconfig: The sandbox's; "" for none.
    """
    own = Target.from_environment().kubeconfig or str(Path.home() / ".kube" / "config")
    first = [kubeconfig] if kubeconfig else []
    # As sandboxes come and go, what an earlier `labkit env` has set may be there already.
    further = [part for part in own.split(":") if part not in first]
    return {
        **environment(":".join([*first, str(user.NO_CLUSTER)])),
        "LABKIT_KUBECONFIG": ":".join([*first, *further]),
        **{
            name: os.pathsep.join(filter(None, [str(folder), os.environ.get(name, "")]))
            for name, folder in JUPYTER.items()
            if folder.is_dir()
        },
    }


def _sandbox(what: Choice) -> str:
    """Its kubeconfig, once it runs; "" if it cannot start: the course can be read without it."""
    name = sandboxes.named(what.release, user.sandbox())
    options = [] if name == sandboxes.DEFAULT else ["--name", name]
    try:
        # What follows is for a terminal that knows nothing of the sandbox yet.
        print(
            sandbox.call("up", *options, "--release", what.release).partition("\n")[0] + "; `labkit down` ends it",
            flush=True,
        )
        return str(sandboxes.kubeconfig(name))
    except SettingError as error:
        print(f"labkit: {error}\n  JupyterLab starts without it.", file=sys.stderr, flush=True)
        return ""


def _as_root(arguments: Sequence[str]) -> str:
    if any(word.partition("=")[0].endswith((".ip", "--ip", "token", "password")) for word in arguments):
        return "JupyterLab runs as root here, and who may reach it is as you say."
    return "JupyterLab runs as root here: on loopback only, and behind its token."
