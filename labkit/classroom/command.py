# SPDX-License-Identifier: Apache-2.0
"""`labkit course progress | reset | export | seats`."""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path

from labkit.ground import config
from labkit.ground.language import LANGUAGES, SOURCE, told
from labkit.ground.saying import saying

__all__ = ["add_to"]


def add_to(parser: argparse.ArgumentParser) -> None:
    """Give a parser the commands about the course; each sets `action`."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    releases = " or ".join(config.RELEASES)

    help = "how far you are; with --all, how far everybody is"
    progress = commands.add_parser("progress", help=help, description=help)
    progress.add_argument(
        "--all", action="store_true", help="this machine's users, as far as you may read them; or who told --folder"
    )
    progress.add_argument(
        "--folder", type=Path, metavar="DIR", help="with --all: the folder that seats tell (default: $LABKIT_CLASS)"
    )
    progress.set_defaults(action=_progress)

    help = "bring the cluster to a lesson's start; what was reached stays"
    reset = commands.add_parser("reset", help=help, description=help)
    reset.add_argument("--to", required=True, metavar="LESSON", help="its number or name: 05, 05-grafana")
    reset.add_argument("--release", default="", metavar="RELEASE", help=f"Istio {releases}; the course's own otherwise")
    reset.add_argument("--target", default="", metavar="CONTEXT", help="'sandbox', or a context of your kubeconfig")
    reset.add_argument(
        "--confirm", default="", metavar="CONTEXT", help="on a context of yours: its name once more; else you are asked"
    )
    reset.add_argument("--show", action="store_true", help="print each command and its answer")
    reset.set_defaults(action=_reset)

    help = (
        "the course in another shape or language: without solutions, with them and what to say, slides, pages to read"
    )
    export = commands.add_parser("export", help=help, description=help)
    export.add_argument(
        "--edition", required=True, metavar="NAME", help="student, instructor, book, slides or cheat-sheet"
    )
    export.add_argument("--release", default=config.DEFAULT_RELEASE, metavar="RELEASE", help=f"Istio {releases}")
    languages = ", ".join(f"{name} ({own})" for name, own in LANGUAGES.items())
    export.add_argument(
        "--lang", default=told() or SOURCE, metavar="LANGUAGE", help=f"{languages}; default: $LABKIT_LANG"
    )
    export.add_argument("--out", type=Path, metavar="DIR", help="where to (default: build/EDITION)")
    export.add_argument(
        "--played",
        type=Path,
        default=Path("build/workshop"),
        metavar="DIR",
        help="for the book: what `labkit run` left there (default: %(default)s)",
    )
    export.set_defaults(action=_export)

    help = "seats for a class on this machine: to each a sandbox, a copy and a JupyterLab; until Ctrl-C"
    seats = commands.add_parser("seats", help=help, description=help)
    seats.add_argument("count", type=int, metavar="N", help="how many, 1 to 99")
    seats.add_argument(
        "--folder", type=Path, default=Path("class"), metavar="DIR", help="where their homes are (default: %(default)s)"
    )
    seats.add_argument("--release", default=config.DEFAULT_RELEASE, metavar="RELEASE", help=f"Istio {releases}")
    seats.add_argument(
        "--first-port", type=int, default=0, metavar="PORT", help="the first seat's port, the others follow; any if 0"
    )
    seats.add_argument("--anyway", action="store_true", help="start more than fit into this machine's memory")
    seats.set_defaults(action=_seats)


def _progress(args: argparse.Namespace) -> int:
    from labkit import display
    from labkit.classroom import reached
    from labkit.course import telling
    from labkit.lab import start

    if not (args.all or args.folder):
        facts = start.facts()
        rows = [
            {
                "": display.SYMBOLS["good"] if one["done"] else "○",
                "Lesson": one["name"],
                "About": one["title"],
                "Checks passed": one["passed"] or "",
                "Exercises": f"{one['solved']} of {one['exercises']}" if one["exercises"] else "",
                "When": one["done"] and f"done {one['done'][:16].replace('T', ' ')} UTC",
            }
            for one in facts["lessons"]
        ]
        print(display.table(rows, ["", "Lesson", "About", "Checks passed", "Exercises", "When"]))
        if facts["next"]:
            print(display.message(f"Go on with {facts['next']}.", "note"))
        return 0
    folder = args.folder or telling.folder()
    if folder is not None:
        print(reached.table(reached.told(folder)))
        return 0
    found, closed = reached.by_users()
    print(reached.table(found))
    if closed:
        step = "Ask as root; or have them tell a folder: LABKIT_CLASS, in docs/teaching.md."
        print(display.message(f"You may not read how far these are: {', '.join(closed)}.", "warning", next_step=step))
    return 0


def _reset(args: argparse.Namespace) -> int:
    from labkit import choice
    from labkit.course.reset import reset

    # On a cluster of others what would go is shown, and asked about.
    own = args.target or choice.chosen().target
    quiet = own == choice.SANDBOX and not args.show
    with saying(f"going to the start of lesson {args.to}"), _quietly() if quiet else contextlib.nullcontext():
        lesson = reset(args.to, args.release, args.target, args.confirm)
    print(f"The cluster is as it is before {lesson}. In a notebook that is open, run its first cell again.")
    return 0


def _quietly() -> contextlib.AbstractContextManager[object]:
    return contextlib.redirect_stdout(io.StringIO())


def _export(args: argparse.Namespace) -> int:
    from labkit.classroom import editions

    out = args.out or Path("build") / (args.edition if args.lang == SOURCE else f"{args.edition}-{args.lang}")
    written = editions.export(args.edition, config.taught(args.release), out, args.played, args.lang)
    print(f"{len(written)} files; open {written[0]}")
    return 0


def _seats(args: argparse.Namespace) -> int:
    from labkit.classroom import seats

    release = config.taught(args.release)
    return seats.run(args.count, args.folder, release, args.first_port, anyway=args.anyway)
