"""The command line: ``labkit up | down | status | env | setup | doctor | run``."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from labkit import __version__, config
from labkit.errors import LabError

__all__ = ["main"]


def _up(args: argparse.Namespace) -> int:
    from labkit.sandbox import control

    before = control.reports(args.name)
    now = control.up(
        args.name,
        args.release,
        loadbalancer=args.loadbalancer,
        real_clocks=args.real_clocks,
        recover=args.recover,
        with_pid=args.with_pid,
    )
    for report in control.reports(args.name):
        if report not in before:
            print(report.read_text(), end="")
    _tell_set_aside(args.name)
    print(f"sandbox {now.name!r} is running: Istio {now.release}, Kubernetes API at {now.server}")
    if now.note:
        print(f"note: {now.note}")
    if now.ends_with is not None:
        print(f"it ends with process {now.ends_with}, at the latest")
    elif args.with_pid is not None:
        print(f"it ran already, and goes on when process {args.with_pid} ends")
    name = "" if now.name == "default" else f" --name {now.name}"
    print(f'next: eval "$(labkit env{name})" && kubectl get nodes')
    return 0


def _tell_set_aside(name: str) -> None:
    from labkit.sandbox import control

    if files := control.set_aside(name):
        count = f"{len(files)} object" if len(files) == 1 else f"{len(files)} objects"
        words = "could not be understood and was" if len(files) == 1 else "could not be understood and were"
        print(
            f"{count} of sandbox {name!r} {words} left out, kept in {files[0].parent}: "
            f"{', '.join(file.stem for file in files[:5])}{', …' if len(files) > 5 else ''} "
            "(mend and apply them, or delete the files)"
        )


def _down(args: argparse.Namespace) -> int:
    from labkit.sandbox import control

    for name in control.names() if args.all else [args.name]:
        now = control.down(name, delete=args.delete)
        kept = "nothing is left of it" if now.state == "absent" else "its objects are kept for the next `labkit up`"
        print(f"sandbox {name!r} is stopped; {kept}")
    return 0


def _status(args: argparse.Namespace) -> int:
    from labkit.sandbox import control

    found = [control.status(name, healing=True) for name in (control.names() if args.all else [args.name])]
    if args.json:
        print(json.dumps([one.as_dict() for one in found], indent=2) if args.all else found[0].as_json())
    else:
        for one in found:
            print(
                f"{one.name}: {one.state}" + (f" (Istio {one.release}, pid {one.pid}, {one.server})" if one.pid else "")
            )
            if one.note:
                print(f"  note: {one.note}")
            _tell_set_aside(one.name)
            for line in (*([one.advice] if one.advice else []), *(f"healing: {what}" for what in one.healing)):
                print(f"  {line}")
    return 0 if args.all or found[0].state == "running" else 3


def _env(args: argparse.Namespace) -> int:
    from labkit.errors import SandboxError
    from labkit.sandbox import control

    now = control.status(args.name)
    if now.state != "running":
        raise SandboxError(f"sandbox {args.name!r} is {now.state}", next_step=f"start it: labkit up --name {args.name}")
    print(f"export KUBECONFIG={shlex.quote(now.kubeconfig)}")
    return 0


def _setup(args: argparse.Namespace) -> int:
    from labkit import tools

    return tools.setup(tests=args.tests)


def _doctor(args: argparse.Namespace) -> int:
    from labkit import tools

    if args.target and args.target != "sandbox":
        from labkit.course.survey import survey

        return survey(args.target, args.release)
    return tools.doctor()


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

    def named(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--name", default="default", help="which sandbox (default: %(default)s)")

    up = command("up", _up, "start a sandbox, or reuse the one that runs")
    named(up)
    up.add_argument("--release", choices=config.RELEASES, help=f"Istio release (default: {config.DEFAULT_RELEASE})")
    up.add_argument("--loadbalancer", action="store_true", help="give Services of type LoadBalancer an address")
    up.add_argument("--real-clocks", action="store_true", help="scrape metrics and send spans at Istio's own intervals")
    up.add_argument(
        "--with-pid", type=int, metavar="PID", help="end it when process PID ends (default: `labkit down` does)"
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

    named(command("env", _env, 'print what `eval "$(labkit env)"` needs'))
    setup = command("setup", _setup, "fetch what pip cannot bring")
    setup.add_argument("--tests", action="store_true", help="also what only the tests need (Chromium)")
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
    for stream in (sys.stdout, sys.stderr):
        # An arrow or a path that the terminal's encoding lacks is shown as an escape.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    try:
        code: int = args.action(args)
        if sys.stdout is not None:
            sys.stdout.flush()
    except LabError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        print("labkit: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output (`| head`) has gone; Python would complain again when it flushes at its end.
        _write_nowhere()
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENOSPC:
            _write_nowhere()
        return _failed(f"{where}{error.strerror or error}\n→ {config.advice()}")
    except Exception as error:
        return _failed(
            f"unexpected {type(error).__name__}: {error}\n→ {config.advice()}; LABKIT_LOG=DEBUG shows where it was"
        )
    return code


def _failed(text: str) -> int:
    if os.environ.get("LABKIT_LOG") == "DEBUG":
        traceback.print_exc()
    print(f"labkit: {text}", file=sys.stderr)
    return 1


def _write_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
