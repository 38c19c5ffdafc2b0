# SPDX-License-Identifier: Apache-2.0
"""The command line of the sandbox: ``meshbox up | down | status | env | image | report | setup | doctor``."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from labkit import __version__
from labkit.ground import command as commands
from labkit.ground import config, sandboxes
from labkit.ground.errors import SandboxError
from labkit.ground.saying import saying
from meshbox import control
from meshbox.program import program

__all__ = ["main"]


def _up(args: argparse.Namespace) -> int:
    # Releases live side by side: one that is asked for by itself finds its own sandbox, or gets one.
    name = args.name
    if name is None:
        name = sandboxes.named(args.release) if args.release else sandboxes.DEFAULT
    before = control.reports(name)
    with saying(f"starting sandbox {name!r}"):
        now = control.up(
            name,
            args.release,
            loadbalancer=args.loadbalancer,
            real_clocks=args.real_clocks,
            recover=args.recover,
            with_pid=args.with_pid,
        )
    for report in control.reports(name):
        if report not in before:
            print(report.read_text(), end="")
    _tell_set_aside(name)
    print(f"sandbox {now.name!r} is running: Istio {now.release}, Kubernetes API at {now.server}")
    if now.note:
        print(f"note: {now.note}")
    if now.ends_with is not None:
        print(f"it ends with process {now.ends_with}, at the latest")
    elif args.with_pid is not None:
        print(f"it ran already, and goes on when process {args.with_pid} ends")
    _tell_neighbours(now.name, "runs")
    option = "" if now.name == sandboxes.DEFAULT else f" --name {now.name}"
    print(f'next: eval "$({program()} env{option})" && kubectl get nodes')
    return 0


def _tell_neighbours(name: str, does: str) -> None:
    """Say which other sandboxes run, as each takes memory."""
    for other in control.names():
        if other != name and (beside := control.status(other)).state == "running":
            end = f"`{program()} down --name {other}` stops it and keeps its objects"
            if beside.ends_with is not None:
                end = f"it ends with process {beside.ends_with}"
            print(f"beside it sandbox {other!r} (Istio {beside.release}) {does} with {_memory(other)} of memory; {end}")


def _memory(name: str) -> str:
    """What sandbox `name` takes; pages that its processes share count once."""
    from meshbox import processes

    return f"{processes.memory(control.folder(name)) / 2**20:.0f} MB"


def _tell_set_aside(name: str) -> None:
    if files := control.set_aside(name):
        count = f"{len(files)} object" if len(files) == 1 else f"{len(files)} objects"
        words = "could not be understood and was" if len(files) == 1 else "could not be understood and were"
        print(
            f"{count} of sandbox {name!r} {words} left out, kept in {files[0].parent}: "
            f"{', '.join(file.stem for file in files[:5])}{', …' if len(files) > 5 else ''} "
            "(mend and apply them, or delete the files)"
        )


def _down(args: argparse.Namespace) -> int:
    for name in control.names() if args.all else [args.name]:
        with saying(f"stopping sandbox {name!r}"):
            now = control.down(name, delete=args.delete)
        kept = (
            "nothing is left of it" if now.state == "absent" else f"its objects are kept for the next `{program()} up`"
        )
        print(f"sandbox {name!r} is stopped; {kept}")
    if not args.all:
        _tell_neighbours(args.name, "goes on")
    return 0


def _status(args: argparse.Namespace) -> int:
    found = [control.status(name, healing=True) for name in (control.names() if args.all else [args.name])]
    if args.json:
        print(json.dumps([one.as_dict() for one in found], indent=2) if args.all else found[0].as_json())
    else:
        for one in found:
            print(
                f"{one.name}: {one.state}"
                + (f" (Istio {one.release}, pid {one.pid}, {one.server})" if one.pid else "")
                + (f", {_memory(one.name)} of memory" if args.all and one.pid else "")
            )
            if one.note:
                print(f"  note: {one.note}")
            _tell_set_aside(one.name)
            for line in (*([one.advice] if one.advice else []), *(f"healing: {what}" for what in one.healing)):
                print(f"  {line}")
    return 0 if args.all or found[0].state == "running" else 3


def _env(args: argparse.Namespace) -> int:
    now = control.status(args.name)
    if now.state != "running":
        raise SandboxError(
            f"sandbox {args.name!r} is {now.state}", next_step=f"start it: {program()} up --name {args.name}"
        )
    print(f"export KUBECONFIG={shlex.quote(now.kubeconfig)}")
    return 0


def _report(args: argparse.Namespace) -> int:
    if args.target is not None and args.target != "sandbox":
        raise SandboxError(
            f"a report is of a sandbox: nothing of the cluster behind {args.target!r} is read or packed",
            next_step="labkit doctor --target CONTEXT says what the course would do there; `"
            f"{program()} report` packs what there is of the sandbox on this machine",
        )
    # Reads journals, which no other command does.
    from meshbox import report

    with saying("packing the report"):
        packed = report.pack(args.name, args.out)
    print(packed)
    return 0


def _image(args: argparse.Namespace) -> int:
    # Knows what each image runs, which no other command needs.
    from meshbox import images
    from meshbox.images import own

    added = own.all_own()
    if args.action_on == "add":
        replaced = images.find(args.image) if args.image else None
        repository, line = own.add(args.image, args.words)
        print(f"image {repository.removeprefix('library/')} runs: {shlex.join(line)}")
        if repository not in added and replaced is not None:
            print("pods of that name ran the sandbox's own until now")
        print("it is to listen on the address $LABKIT_BIND; a Python program that listens everywhere does so by itself")
    elif args.action_on == "remove":
        print(f"image {own.remove(args.image).removeprefix('library/')} is forgotten; pods that run go on")
    else:
        for name in images.known():
            print(f"{name:<48} {images.known_as(name)}")
        for repository, line in sorted(added.items()):
            print(f"{repository.removeprefix('library/'):<48} yours: {shlex.join(line)}")
    return 0


def _setup(args: argparse.Namespace) -> int:
    # Knows how each tool is fetched.
    from meshbox import tools

    return tools.setup(tests=args.tests)


def _doctor(_args: argparse.Namespace) -> int:
    from meshbox import tools

    return tools.doctor()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program(), description="A Kubernetes with a service mesh, as processes of this machine."
    )
    parser.add_argument("--version", action="version", version=f"{program()} {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, action: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(action=action)
        return sub

    def named(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--name", default=sandboxes.DEFAULT, help="which sandbox (default: %(default)s)")

    up = command("up", _up, "start a sandbox, or reuse the one that runs")
    up.add_argument("--name", help=f"which sandbox (default: that of the release, else {sandboxes.DEFAULT!r})")
    up.add_argument(
        "--release",
        choices=config.RELEASES,
        help=f"Istio release (default: the sandbox's own, else the course's, else {config.DEFAULT_RELEASE})",
    )
    up.add_argument("--loadbalancer", action="store_true", help="give Services of type LoadBalancer an address")
    up.add_argument("--real-clocks", action="store_true", help="scrape metrics and send spans at Istio's own intervals")
    up.add_argument(
        "--with-pid", type=int, metavar="PID", help=f"end it when process PID ends (default: `{program()} down` does)"
    )

    up.add_argument(
        "--recover", action="store_true", help="start from what is sound of damaged objects, and list what was lost"
    )

    down = command("down", _down, "stop a sandbox and all it started")
    named(down)
    down.add_argument("--delete", action="store_true", help="also forget its objects")
    down.add_argument("--all", action="store_true", help="every sandbox")

    status = command("status", _status, "say what a sandbox is doing (exit code 3 unless it runs)")
    named(status)
    status.add_argument("--json", action="store_true", help="as JSON")
    status.add_argument("--all", action="store_true", help="every sandbox")

    named(command("env", _env, f'print what `eval "$({program()} env)"` needs'))
    report = command("report", _report, "pack logs, versions and objects without secrets, to find a fault with")
    named(report)
    report.add_argument("--out", type=Path, metavar="FILE", help="the file to write (default: one in this folder)")
    report.add_argument("--target", metavar="CONTEXT", help="refused for any cluster but a sandbox")
    image = command("image", _image, "which images pods may have; bring one of your own")
    on = image.add_subparsers(dest="action_on", required=True, metavar="ACTION")
    on.add_parser("list", help="all images, and what each is here")
    adding = on.add_parser("add", help="run a program of this machine, or a Python file, as an image")
    adding.add_argument("image", metavar="NAME", help="the image's name as in a pod, e.g. shop/cart")
    adding.add_argument(
        "--command",
        dest="words",
        nargs=argparse.REMAINDER,
        required=True,
        metavar="COMMAND",
        help="the program and its arguments; app.py is run by Python",
    )
    on.add_parser("remove", help="forget one that was added").add_argument("image", metavar="NAME")
    setup = command("setup", _setup, "fetch what pip cannot bring")
    setup.add_argument("--tests", action="store_true", help="also what only the tests need (Chromium)")
    command("doctor", _doctor, "say what is missing or broken, and the next step")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``meshbox``.

    Returns:
        The exit code: 0 done, 1 an error (told in one message), 3 a sandbox that is not running.
    """
    args = _parser().parse_args(argv)
    return commands.run(program(), args.action, args)
