# SPDX-License-Identifier: Apache-2.0
"""Odd surroundings that `labkit up` may find itself in, each with what must come of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ODD", "Odd"]


@dataclass(frozen=True)
class Odd:
    """Surroundings.

    Args:
        name: What is odd.
        refused: What the sentence must hold (a regular expression); "" where the sandbox must run.
        env: Variables that differ; {} stands for the test's own folder, None for a variable that is not there.
        around: A command that all is played in.
        each: A shell fragment that `labkit up` runs in; "$@" is the command.
        prepare: Called with the test's folder before.
        sandbox: The sandbox's name.
        either: Whether it may run although it may be refused: users and machines differ in it.
        heavy: Whether it is left out of the normal suite.
    """

    name: str
    refused: str = ""
    env: Mapping[str, str | None] = field(default_factory=dict)
    around: tuple[str, ...] = ()
    each: str = 'exec "$@"'
    prepare: Callable[[Path], object] = lambda _: None
    sandbox: str = "odd"
    either: bool = False
    heavy: bool = True


def _at(name: str, home: str, refused: str = "", prepare: Callable[[Path], object] = lambda _: None) -> Odd:
    return Odd(f"LABKIT_HOME {name}", refused, {"LABKIT_HOME": home}, prepare=prepare, heavy=not refused)


def _limit(option: str, refused: str = "", *, either: bool = False) -> Odd:
    return Odd(f"prlimit {option}", refused, each=f'exec prlimit {option} -- "$@"', either=either)


def _variables(name: str, refused: str = "", **env: str | None) -> Odd:
    return Odd(name, refused, env)


def _streams(name: str, fragment: str, refused: str = "") -> Odd:
    return Odd(name, refused, each=fragment)


def _link(name: str, to: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).symlink_to(folder / to)


def _text(path: str, text: str) -> Callable[[Path], object]:
    def prepare(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)

    return prepare


def _folder(path: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).mkdir(parents=True)


def _crashed(folder: Path) -> None:
    """What is left where a machine went down: its files speak of a process whose number another one has now."""
    for name in ("state.json", "state.json.new", "daemon.log", "up.lock"):
        _text(f"home/sandboxes/odd/{name}", '{"pid": 1, "started": 1.0, "state": "running", "port": 1}')(folder)
    _folder("home/sandboxes/odd/pods/default_old_uid/c/rootfs")(folder)


_NAMESPACE = ("unshare", "--user", "--map-root-user")
_UP = (
    "import fcntl, os, socket, struct, sys\n"
    "up = struct.pack('16sh22x', b'lo', 0x41)\n"
    "fcntl.ioctl(socket.socket(), 0x8914, up)\n"
)
_TAKEN = (
    "held = []\n"
    "for number in range(1, 255):\n"
    "    for family, kind, where in ((2, 1, (f'127.{number}.0.1', 6443)), (2, 2, (f'127.{number}.0.1', 29127))):\n"
    "        held.append(socket.socket(family, kind))\n"
    "        held[-1].bind(where)\n"
    "        held[-1].set_inheritable(True)\n"
)
_GO_ON = "os.execv(sys.argv[1], sys.argv[1:])\n"


def _small(options: str) -> tuple[str, ...]:
    """A small file system at the test's folder "small", seen by these processes only."""
    mount = f'mount -t tmpfs -o {options} none "$ODD/small" && exec "$@"'
    return (*_NAMESPACE, "--mount", "sh", "-c", mount, "sh")


def _on(name: str, options: str, refused: str = "") -> Odd:
    return Odd(
        f"a file system with {name}",
        refused,
        {"LABKIT_HOME": "{}/small/home"},
        around=_small(options),
        prepare=_folder("small"),
        heavy=not refused,
    )


_LABEL = "cannot be used: it holds"
_WRITE = "cannot write to"
_DEAD = "http://127.0.0.1:9"
_PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), _DEAD)
_SHADOW = "raise RuntimeError('not the module you meant')\n"

_NAMELESS = ("unshare", "--user", "--map-user=54321")
_CWD = ("sh", "-c", 'cd "$ODD/x"; rmdir "$ODD/x"; exec "$@"', "sh")

HOMES = (
    _at("with blanks and signs", "{}/a b'c\"d %s {x} $HOME #&;*\\"),
    _at("with letters of many scripts", "{}/süß-日本-🙂"),
    _at("with a colon", "{}/a:b", _LABEL),
    _at("with a line's end", "{}/a\nb", _LABEL),
    _at("with bytes that are no text", "{}/a\udcffb", _LABEL),
    Odd("LABKIT_HOME relative", env={"LABKIT_HOME": "some/where"}, around=("sh", "-c", 'cd "$ODD"; exec "$@"', "sh")),
    _at("below ~", "~/of mine"),
    _at("empty", ""),
    _at("of 600 letters", "{}/" + "/".join(["x" * 200] * 3)),
    _at("of 5000 letters", "{}/" + "/".join(["x" * 200] * 25), f"{_WRITE}.*name too long"),
    _at("with a part of 300 letters", "{}/" + "x" * 300, f"{_WRITE}.*name too long"),
    _at("that is a link", "{}/link/home", prepare=_link("link", ".")),
    _at("that is a link to nothing", "{}/link", _WRITE, _link("link", "nothing")),
    _at("that is a link to itself", "{}/link", _WRITE, _link("link", "link")),
    _at("that is a file", "{}/file", _WRITE, _text("file", "text")),
    _at("whose parents are missing", "{}/a/b/c/d"),
    _at("in /proc", "/proc/labkit", _WRITE),
    _on("nothing to write", "ro", _WRITE),
    _on("64 kB", "size=64k", "free space"),
    _on("20 inodes", "nr_inodes=20", "inodes"),
    _on("no right to execute", "noexec"),
    Odd(
        "no home and no name",
        "no folder for labkit's state",
        {"HOME": None, "LABKIT_HOME": None},
        _NAMELESS,
    ),
    Odd("a user without a name", env={"HOME": None}, around=_NAMELESS),
    _variables("HOME that is missing", HOME="/nonexistent"),
    _variables("HOME that takes no file", _WRITE, HOME="/proc", LABKIT_HOME=None),
    Odd("files of a crash", prepare=_crashed),
    Odd("a folder where the lock is", _WRITE, prepare=_folder("home/sandboxes/odd/up.lock")),
    Odd("a file where the sandboxes are", _WRITE, prepare=_text("home/sandboxes", "")),
)

PROCESSES = (
    _streams("stdin closed", 'exec "$@" <&-'),
    _streams("stdout closed", 'exec "$@" >&-'),
    _streams("stderr closed", 'exec "$@" 2>&-'),
    _streams("all streams closed", 'exec "$@" <&- >&- 2>&-'),
    _streams("an output that is full", '"$@" >/dev/full', "No space left on device"),
    Odd(
        "a folder that is gone",
        around=_CWD,
        prepare=_folder("x"),
    ),
    _streams("umask 0777", 'umask 0777; exec "$@"'),
    _streams("umask 0", 'umask 0; exec "$@"'),
    _streams("signals ignored", 'exec env --ignore-signal=CHLD,HUP,INT,TERM,PIPE "$@"'),
    _streams("signals blocked", 'exec env --block-signal=CHLD,HUP,INT,TERM,USR1 "$@"'),
    _limit("--nofile=64", "64 files open"),
    _limit("--nofile=256"),
    _limit("--nofile=64:4096"),
    _limit("--nproc=1", "Resource temporarily unavailable", either=True),
    _limit("--fsize=0", "File too large"),
    _limit("--as=150000000", "memory|MemoryError|allocat|ended with", either=True),
    _limit("--stack=1000000"),
    _limit("--core=0"),
    Odd("the same name in capitals", "cannot be the name", sandbox="ODD", heavy=False),
    Odd("a name that climbs", "cannot be the name", sandbox="../odd", heavy=False),
    Odd("an empty name", "cannot be the name", sandbox="", heavy=False),
    Odd("a name of two lines", "cannot be the name", sandbox="odd\n", heavy=False),
)

VARIABLES = (
    _variables("no PATH", PATH=None),
    _variables("a PATH without programs", PATH="/nonexistent"),
    _variables("TMPDIR that is missing", TMPDIR="/nonexistent"),
    _variables("TMPDIR that takes no file", TMPDIR="/proc"),
    Odd("TMPDIR with blanks", env={"TMPDIR": "{}/t m p"}, prepare=_folder("t m p")),
    _variables("LC_ALL=C", LC_ALL="C", LANG="C"),
    _variables("a locale that is not there", LC_ALL="xx_YY.bogus"),
    _variables("output in ASCII", PYTHONIOENCODING="ascii"),
    _variables("no UTF-8", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="C"),
    _variables("dead proxies", **_PROXIES),
    _variables("KUBECONFIG that is missing", KUBECONFIG="/nonexistent/config"),
    Odd("KUBECONFIG that is garbage", env={"KUBECONFIG": "{}/garbage"}, prepare=_text("garbage", "{[")),
    Odd(
        "PYTHONPATH that shadows the standard library",
        "PYTHONPATH",
        {"PYTHONPATH": "{}/lib"},
        prepare=_text("lib/argparse.py", _SHADOW),
        heavy=False,
    ),
    Odd(
        "PYTHONPATH that shadows a library",
        "PYTHONPATH",
        {"PYTHONPATH": "{}/lib"},
        prepare=_text("lib/psutil.py", _SHADOW),
    ),
    Odd(
        "PYTHONPATH that shadows what only the daemon needs",
        "PYTHONPATH",
        {"PYTHONPATH": "{}/lib"},
        prepare=_text("lib/aiohttp.py", _SHADOW),
    ),
    _variables(
        "Python's odd switches",
        PYTHONSTARTUP="/nonexistent",
        PYTHONOPTIMIZE="2",
        PYTHONHASHSEED="0",
        PYTHONWARNINGS="error",
        PYTHONNOUSERSITE="1",
        PYTHONUNBUFFERED="1",
    ),
    _variables("Python's own home", PYTHONHOME=sys.base_prefix),
    _variables("certificates that are missing", SSL_CERT_FILE="/nonexistent", SSL_CERT_DIR="/nonexistent"),
    _variables("OpenSSL's settings that are missing", OPENSSL_CONF="/nonexistent"),
    _variables("a time zone that is none", TZ="Nowhere/Land"),
    _variables("a display that is none", DISPLAY=":99", BROWSER="/nonexistent"),
    _variables("a word that is no log level", LABKIT_LOG="chatty"),
)

MACHINES = (
    Odd(
        "no loopback interface",
        "the loopback address 127.0.0.1 cannot be used",
        around=(*_NAMESPACE, "--net"),
        heavy=False,
    ),
    Odd("a network of its own", around=(*_NAMESPACE, "--net", sys.executable, "-I", "-c", _UP + _GO_ON)),
    Odd(
        "no free block of addresses",
        "no free block",
        around=(*_NAMESPACE, "--net", sys.executable, "-I", "-c", _UP + _TAKEN + _GO_ON),
    ),
)

ODD = (*HOMES, *PROCESSES, *VARIABLES, *MACHINES)
