# SPDX-License-Identifier: Apache-2.0
"""The command line: ``labkit lab | up | down | status | env | report | setup | doctor | run | course``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from labkit import __version__, sandbox
from labkit.classroom import command as classroom
from labkit.ground import command as commands
from labkit.ground import config, sandboxes
from labkit.ground.language import LANGUAGES

__all__ = ["main"]


_ONE_SANDBOX = ("up", "down", "status", "env", "report")
"""What is about one sandbox: where none is named, about the one that the course runs on."""


def _hand_over(args: argparse.Namespace) -> int:
    words: list[str] = args.words
    said, command = _said(words), words[0]
    if command in _ONE_SANDBOX and not (said.help or said.all):
        from labkit import choice, user

        release = choice.chosen(said.release or "").release
        if command == "up" and said.release and said.with_pid is None:
            before, now = choice.chosen(), choice.choose(release=release)
            if before.release != release:
                print(f"{replace(now, note='')} (kept in {choice.file()})")
        # An empty name is one that somebody gave, and the sandbox's to refuse.
        name = sandboxes.named(release, user.sandbox()) if said.name is None else said.name
        words += ["--name", name] if said.name is None else []
        if command == "up" and not (said.release or sandboxes.release(name)):
            words += ["--release", release]
    sandbox.become(*words)


def _said(words: Sequence[str]) -> argparse.Namespace:
    """What a command line for the sandbox says that is about the course as well; the rest is the sandbox's affair."""
    parser = argparse.ArgumentParser(prog=f"labkit {words[0]}", add_help=False)
    for option in ("--name", "--release", "--with-pid"):
        parser.add_argument(option)
    for flag in (("--all",), ("--help", "-h")):
        parser.add_argument(*flag, action="store_true")
    return parser.parse_known_args(words[1:])[0]


def _doctor(args: argparse.Namespace) -> int:
    if args.target and args.target != "sandbox":
        from labkit.choice import chosen
        from labkit.course.survey import survey

        return survey(args.target, chosen(args.release).release)
    return sandbox.become("doctor")


def _run(args: argparse.Namespace) -> int:
    from labkit.course.runner import main as play

    release, which, where = config.taught(args.release), args.notebooks, args.target
    return play(release=release, target=where, out=args.out, notebooks=which, confirm=args.confirm, lanes=args.lanes)


def _lab(args: argparse.Namespace) -> int:
    from labkit.lab.command import main as lab

    chosen = {"folder": args.folder, "fresh": args.fresh, "release": args.release, "target": args.target}
    return lab(**chosen, arguments=args.jupyter_arguments, language=args.lang)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labkit", description="Learn Istio in JupyterLab, with or without a cluster.")
    parser.add_argument("--version", action="version", version=f"labkit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, action: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(action=action)
        return sub

    releases = " or ".join(config.RELEASES)
    lab = command("lab", _lab, "open the course in JupyterLab, on a copy of the notebooks that is yours")
    lab.add_argument(
        "folder", nargs="?", type=Path, metavar="DIR", help="your copy (default: workshop; in Chinese workshop-zh)"
    )
    lab.add_argument("--fresh", action="store_true", help="start anew; the copy before is kept beside it")
    lab.add_argument("--release", default="", metavar="RELEASE", help=f"Istio {releases}, from now on")
    lab.add_argument(
        "--target", default="", metavar="CONTEXT", help="'sandbox', or a context of your kubeconfig, from now on"
    )
    languages = ", ".join(f"{name} ({own})" for name, own in LANGUAGES.items())
    lab.add_argument(
        "--lang", default="", metavar="LANGUAGE", help=f"{languages}: of a new copy; each copy keeps its own"
    )
    lab.epilog = "What follows -- is for JupyterLab: labkit lab -- --no-browser --port=8890"
    lab.set_defaults(jupyter_arguments=[])
    for name, help in sandbox.COMMANDS.items():
        # Here for the list of commands only: `main` hands them over with all their options.
        commands.add_parser(name, help=help, add_help=False)
    # Its own commands have actions of their own.
    course = commands.add_parser("course", help=(about := "how far you are, any lesson's start, seats for a class"))
    course.description = about
    classroom.add_to(course)
    doctor = command("doctor", _doctor, "say what is missing or broken, and the next step")
    doctor.add_argument(
        "--target", metavar="CONTEXT", help="say what the course would do on this context's cluster; only looks"
    )
    doctor.add_argument(
        "--release",
        default="",
        metavar="RELEASE",
        help=f"with --target: {releases}; the course's own where none is named",
    )

    run = command("run", _run, "play notebooks headless")
    run.add_argument(
        "--release", default=config.DEFAULT_RELEASE, metavar="RELEASE", help=f"{releases} (default: %(default)s)"
    )
    run.add_argument("--target", default="sandbox", help="'sandbox' (a new one), or a context of your kubeconfig")
    run.add_argument(
        "--confirm",
        default="",
        metavar="CONTEXT",
        help="on a context of yours: its name once more; without it the clean-up deletes nothing there",
    )
    run.add_argument(
        "--out", type=Path, default=Path("build/workshop"), help="folder of the results (default: %(default)s)"
    )
    about = "one lesson after the other, or two lanes with a sandbox each (default: 2 for the whole course, if it fits)"
    run.add_argument("--lanes", type=int, choices=(1, 2), help=about)
    run.add_argument(
        "notebooks",
        nargs="*",
        type=Path,
        metavar="NOTEBOOK",
        help="a lesson such as 02-bookinfo, or a file; default: all of the course",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``labkit``.

    Returns:
        The exit code: 0 done, 1 an error (told in one message), 3 a sandbox that is not running.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in sandbox.COMMANDS:
        return commands.run("labkit", _hand_over, argparse.Namespace(words=words))
    jupyter_arguments: list[str] = []
    if words[:1] == ["lab"] and "--" in words:
        words, jupyter_arguments = words[: words.index("--")], words[words.index("--") + 1 :]
    args = _parser().parse_args(words)
    if jupyter_arguments:
        args.jupyter_arguments = jupyter_arguments
    return commands.run("labkit", args.action, args)
