# SPDX-License-Identifier: Apache-2.0
"""The command line: which commands there are, and which are refused."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from labkit.ground import command
from labkit.istioctl import analyze, dashboard, describe, experimental, kube_inject, proxy_config, proxy_status, version
from labkit.istioctl.common import ABOUT, add_cluster

__all__ = ["main"]

_WRONG_USAGE = 64
_SHORT = {"x": "experimental", "exp": "experimental", "pc": "proxy-config", "ps": "proxy-status"}
_SHORT |= {"dash": "dashboard", "d": "dashboard", "analyse": "analyze"}
_ROWS = Path(__file__).with_name("refused.tsv").read_text("utf-8").splitlines()[1:]
_REFUSED = [(row.partition("\t")[0].split(), row.partition("\t")[2]) for row in _ROWS]
"""Commands of the genuine one, or their options, and what to do instead."""

_WORDS = (
    (
        r"argument (-[^:]+): invalid (?:choice|\w+ value): '?(.*?)'?(?: \((.*)\))?",
        'invalid argument "{1}" for "{0}" flag',
    ),
    (r"argument [^:]+: invalid choice: '(.*)' \(.*\)", 'unknown command "{0}" for "{prog}"'),
    (r"argument ([^:]+): expected .*", "flag needs an argument: {0}"),
    (r"unrecognized arguments: (--[\w-]+).*", "unknown flag: {0}"),
    (r"unrecognized arguments: -(\w).*", "unknown shorthand flag: '{0}' in -{0}"),
    (r"unrecognized arguments: (.*)", "nothing is expected after the command's words: {0}"),
    (r"the following arguments are required: (.*)", "{0} is missing"),
)
"""What Python says of a command line, and what istioctl does."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        said = ((re.fullmatch(pattern, message, re.DOTALL), words) for pattern, words in _WORDS)
        told = next((words.format(*found.groups(), prog=self.prog) for found, words in said if found), message)
        print(f"Error: {told}\nRun '{self.prog} --help' for usage. {ABOUT}", file=sys.stderr)
        sys.exit(_WRONG_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="istioctl", description=ABOUT)
    parents = argparse.ArgumentParser(add_help=False)
    add_cluster(parents)
    sub = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for one in (version, proxy_status, proxy_config, analyze, dashboard, kube_inject):
        one.add_to(sub, parents)
    more = sub.add_parser("experimental", help="`describe pod|service`, `authz check`, `envoy-stats`")
    below = more.add_subparsers(dest="experiment", metavar="COMMAND", required=True)
    for experiment in (describe, experimental, version, proxy_status):
        experiment.add_to(below, parents)
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
    words[:1] = [_SHORT.get(one, one) for one in words[:1]]
    for refused, instead in _REFUSED:
        options = [one for one in refused if one.startswith("-")]
        named = refused[: len(refused) - len(options)]
        if words[: len(named)] == named and {*options} <= {one.partition("=")[0] for one in words}:
            print(f"Error: `istioctl {' '.join(refused)}` is not played. {ABOUT}\n→ {instead}", file=sys.stderr)
            return 1
    args = _parser().parse_args(words)
    return command.run("Error", args.action, args, doctor="labkit")
