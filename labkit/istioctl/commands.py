# SPDX-License-Identifier: Apache-2.0
"""The command line: which commands there are, and which are refused."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from labkit.ground import command
from labkit.istioctl import analyze, dashboard, describe, kube_inject, proxy_config, proxy_status, version
from labkit.istioctl.common import ABOUT, add_cluster

__all__ = ["main"]

_WRONG_USAGE = 64
_REFUSED = {
    name: step
    for names, step in (
        (("install", "uninstall", "upgrade", "manifest", "operator"), "Lesson 01 installs Istio."),
        (("tag",), "A tag is a copy of the injector's MutatingWebhookConfiguration, with its own istio.io/rev."),
        (("waypoint", "ztunnel-config"), "The sandbox has sidecars, and no ambient mesh."),
        (("validate", "x precheck"), "`istioctl analyze FILE`, `kubectl apply --dry-run=server -f FILE` look at it."),
        (("bug-report",), "`labkit report` packs what a fault is found with."),
        (("admin",), "istiod has one level of log here; `kubectl logs -n istio-system deploy/istiod` shows it."),
        (("create-remote-secret", "remote-clusters", "completion"), "It is not needed for the lessons."),
    )
    for name in names
}
"""Commands of the genuine one, and what to do instead."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"Error: {message}\nRun '{self.prog} --help' for usage. {ABOUT}", file=sys.stderr)
        sys.exit(_WRONG_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="istioctl", description=ABOUT)
    parents = argparse.ArgumentParser(add_help=False)
    add_cluster(parents)
    sub = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for one in (version, proxy_status, proxy_config, analyze, dashboard, kube_inject):
        one.add_to(sub, parents)
    more = sub.add_parser("experimental", aliases=["x", "exp"], help="`describe pod|service`")
    describe.add_to(more.add_subparsers(dest="experiment", metavar="COMMAND", required=True), parents)
    return parser


def _command_first(words: list[str]) -> list[str]:
    """A command line with the options that come before its command after it: `-n bookinfo analyze` is meant as well."""
    before: list[str] = []
    while len(words) > 1 and words[0].startswith("-") and words[0] not in ("-h", "--help"):
        count = 1 if "=" in words[0] else 2
        before, words = before + words[:count], words[count:]
    return words + before


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of our `istioctl`.

    Returns:
        The exit code, as the genuine one's: 0, 1 after an error, 64 for a wrong command line, 65 for files that cannot
        be read, 79 for findings.
    """
    words = _command_first(list(sys.argv[1:] if argv is None else argv))
    said = next((one for one in (" ".join(words[:2]), *words[:1]) if one in _REFUSED), "")
    if said:
        print(f"Error: `istioctl {said}` is not played. {ABOUT}\n→ {_REFUSED[said]}", file=sys.stderr)
        return 1
    args = _parser().parse_args(words)
    return command.run("Error", args.action, args, doctor="labkit")
