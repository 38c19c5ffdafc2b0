"""The command line: ``labkit up | down | status | env | report | setup | doctor | run``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from labkit import __version__, sandbox
from labkit.ground import command as commands
from labkit.ground import config

__all__ = ["main"]


def _doctor(args: argparse.Namespace) -> int:
    if args.target and args.target != "sandbox":
        from labkit.course.survey import survey

        return survey(args.target, args.release)
    return sandbox.become("doctor")


def _run(args: argparse.Namespace) -> int:
    from labkit.course.runner import main as play

    return play(release=args.release, target=args.target, confirm=args.confirm, out=args.out, notebooks=args.notebooks)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labkit", description="Learn Istio in JupyterLab, with or without a cluster.")
    parser.add_argument("--version", action="version", version=f"labkit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, action: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(action=action)
        return sub

    for name, help in sandbox.COMMANDS.items():
        # Here for the list of commands only: `main` hands them over with all their options.
        commands.add_parser(name, help=help, add_help=False)
    doctor = command("doctor", _doctor, "say what is missing or broken, and the next step")
    doctor.add_argument(
        "--target", metavar="CONTEXT", help="say what the course would do on this context's cluster; only looks"
    )
    doctor.add_argument("--release", choices=config.RELEASES, default=config.DEFAULT_RELEASE, help="with --target")

    run = command("run", _run, "play notebooks headless")
    run.add_argument("--release", choices=config.RELEASES, default=config.DEFAULT_RELEASE)
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
    run.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all of the course, in order")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``labkit``.

    Returns:
        The exit code: 0 done, 1 an error (told in one message), 3 a sandbox that is not running.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in sandbox.COMMANDS:
        sandbox.become(*words)
    args = _parser().parse_args(words)
    return commands.run("labkit", args.action, args)
