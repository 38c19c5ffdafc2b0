# SPDX-License-Identifier: Apache-2.0
"""How a command of ours ends: its exit code, and one message for whatever goes wrong."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable

from labkit.ground import config
from labkit.ground.errors import LabError

__all__ = ["run"]


def run(
    program: str, action: Callable[[argparse.Namespace], int], args: argparse.Namespace, *, doctor: str = ""
) -> int:
    """Do what a command line asks for; an error becomes one message with the next step.

    Args:
        program: The command's name, for messages.
        action: What to do; may raise anything.
        args: What it is given.
        doctor: The command that says what a machine lacks; "" for the program itself.

    Returns:
        The action's exit code; 1 after an error, 130 after an interrupt, 141 if nobody reads what it prints.
    """

    def failed(text: str) -> int:
        if os.environ.get("LABKIT_LOG") == "DEBUG":
            traceback.print_exc()
        print(f"{program}: {text}", file=sys.stderr)
        return 1

    for stream in (sys.stdout, sys.stderr):
        # An arrow or a path that the terminal's encoding lacks is shown as an escape.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = action(args)
        if sys.stdout is not None:
            sys.stdout.flush()
    except LabError as error:
        return failed(error.told())
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output (`| head`) has gone; Python would complain again when it flushes at its end.
        _write_nowhere()
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENOSPC:
            _write_nowhere()
        return failed(f"{where}{error.strerror or error}\n→ {config.advice(doctor or program)}")
    except Exception as error:
        return failed(
            f"unexpected {type(error).__name__}: {error}\n"
            f"→ {config.advice(doctor or program)}; LABKIT_LOG=DEBUG shows where it was"
        )
    return code


def _write_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
