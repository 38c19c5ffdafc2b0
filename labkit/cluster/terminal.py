# SPDX-License-Identifier: Apache-2.0
"""What waits for a terminal, or never ends, is refused: a notebook's cell has no keyboard, and would stand there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labkit.cluster.words import Command
from labkit.ground.errors import ClusterError

__all__ = ["refuse_endless"]

_EDITS = "opens an editor", 'Change the file and `apply(…)` it, or `kubectl("patch …")` the object'
_LOOKS_ON = (
    "never ends by itself",
    'Look on with `ui.watch("NAMESPACE")`, or wait with `ui.ready(…)`, `wait_for(…)` or `kubectl("wait --for=…")`',
)
_VERBS = {
    "edit": _EDITS,
    "attach": ("stays until the container ends", 'What it prints: `kubectl("logs POD")`'),
    "port-forward": ("stays until it is ended", 'Use `port_forward("svc/NAME", PORT)` of labkit.cluster'),
    "proxy": ("stays until it is ended", '`kubectl("get --raw /PATH")` asks the API, `port_forward(…)` a Service'),
}
"""What a verb does, and what to do instead."""

_CONFIG_READS = {"", "view", "current-context", "get-contexts", "get-clusters", "get-users", "help"}
_NO = ("false", "f", "0")
_STREAMS = ("watch=1", "watch=true", "/watch/", "follow=1", "follow=true")
# Flags of one letter that have no value, and so may stand together: -it.
_SWITCHES = "AhiqRtw"
_SWITCHES_OF_LOGS = "fhp"


def refuse_endless(words: Sequence[str], stdin: str | None) -> None:
    """Refuse a command that would wait for a keyboard, or for ever.

    Args:
        words: The command, without "kubectl".
        stdin: What it reads; None for nothing.

    Raises:
        ClusterError: It would; the next step says how to do it.
    """
    command = Command(tuple(words))
    flags = dict(_flags(words, command.verb))
    if command.verb in ("", "help", "options", "completion") or flags.keys() & {"-h", "--help"}:
        return
    if found := _reason(command, flags, stdin):
        does, instead = found
        raise ClusterError(
            f"`kubectl {command.verb}` {does}, and a cell has no terminal; nothing was run",
            next_step=f"{instead}; or type it in a terminal (File ▸ New ▸ Terminal).",
        )


def _reason(command: Command, flags: dict[str, str], stdin: str | None) -> tuple[str, str] | None:
    """What it would wait for, and what to do instead; None for nothing."""

    def has(*names: str) -> bool:
        return any(flags.get(name, "false").lower() not in _NO for name in names)

    verb, about = command.verb, command.about[:1]
    if verb in _VERBS:
        return _VERBS[verb]
    if has("--edit") or (verb == "apply" and about == ["edit-last-applied"]):
        return _EDITS
    if verb == "kuberc" or (verb == "config" and not _CONFIG_READS.issuperset(about)):
        return f"{' '.join(about)} changes a kubeconfig", "Here TARGET chooses, in the lesson's first cell"
    if verb in ("logs", "log") and has("-f", "--follow"):
        return "-f never ends by itself", 'Leave -f out: `kubectl("logs POD --since=1m")` prints what there is'
    # A rollout's status ends with the rollout.
    streams = any(sign in flags.get("--raw", "") for sign in _STREAMS)
    if streams or (verb != "rollout" and has("-w", "--watch", "--watch-only")):
        return _LOOKS_ON
    if verb == "wait" and flags.get("--timeout", "").startswith("-"):
        return "--timeout below 0 may never end", "Give it seconds: `--timeout=60s`"
    if verb in ("exec", "run", "debug") and has("-t", "--tty"):
        return "-t wants a terminal", 'Leave -it out and give the whole command: `kubectl("exec POD -- COMMAND")`'
    if verb == "delete" and has("-i", "--interactive"):
        return "-i asks before each object", "Leave -i out, and name what is to go"
    return _reads(command, has("-i", "--stdin")) if stdin is None else None


def _reads(command: Command, interactive: bool) -> tuple[str, str] | None:
    """What it would read from a keyboard."""
    if interactive and command.verb in ("exec", "run", "debug"):
        return "-i reads what is typed", 'Leave -i out, or hand it over: `kubectl("…", stdin="…")`'
    files = {*command.files, *(command.about if command.verb == "cp" else ())}
    if "-" in files or any(word.endswith("/dev/stdin") for word in command.words):
        return "reads what is typed", 'Hand it over: `apply("…")`, or `kubectl("…", stdin="…")`'
    return None


def _flags(words: Sequence[str], verb: str) -> Iterator[tuple[str, str]]:
    """Flags with their values, those of two words only where they count here; a switch is "true"."""
    switches = _SWITCHES_OF_LOGS if verb in ("logs", "log") else _SWITCHES
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, given, value = word.partition("=")
        if word == "--":
            return
        if word.startswith("--"):
            yield name, value if given else following if name in ("--raw", "--timeout") else "true"
        elif word.startswith("-"):
            for letter in name[1:]:
                yield f"-{letter}", value or "true"
                if letter not in switches:
                    break
