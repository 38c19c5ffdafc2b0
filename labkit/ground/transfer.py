# SPDX-License-Identifier: Apache-2.0
"""Getting a file over an unsteady network: what has arrived is kept, and an interrupted download goes on."""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.ground.errors import ReleaseError
from labkit.ground.saying import saying, seen_live

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Patience", "checksum_of", "download", "text"]

_CHUNK = 256 * 1024
_TEXT_LIMIT = 1024 * 1024
OFFLINE = "Without a network: `istio.release(VERSION)` takes the workshop's own manifests, which need no download."


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Args:
        silence: Seconds without a byte after which a connection is given up.
        deadline: Seconds for the whole.
        fruitless: Connections in a row that may end without having brought the file further.
    """

    silence: float = 30.0
    deadline: float = 1800.0
    fruitless: int = 2


class _InterruptedError(Exception):
    """The connection ended early; the reason is its text."""


def text(url: str, patience: Patience | None = None) -> str:
    """A small text file at `url`.

    Raises:
        ReleaseError: It cannot be had.
    """
    with _opened(url, {}, patience or Patience()) as answer:
        try:
            return answer.read(_TEXT_LIMIT).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise ReleaseError(f"{url}: the connection ended early: {error}", next_step="Try again.") from None


def checksum_of(listing: str, name: str, source: str) -> str:
    """The SHA-256 of file `name` in a checksum file: lines "HASH  NAME", or a hash alone.

    Args:
        listing: The text.
        name: The file's name.
        source: Where the text is from, for the error.

    Raises:
        ReleaseError: It says nothing about that file.
    """
    for line in listing.splitlines():
        # sha256sum marks binary files with an asterisk; a hash alone is that of the one file there is.
        hashed, _space, named = line.strip().partition(" ")
        if re.fullmatch(r"[0-9a-fA-F]{64}", hashed) and named.strip().lstrip("*").rpartition("/")[2] in ("", name):
            return hashed.lower()
    raise ReleaseError(f"{source} has no SHA-256 of {name}", next_step="Is it the checksum file of that archive?")


def download(url: str, target: Path, sha256: str, patience: Patience | None = None, *, bar: bool = True) -> None:
    """Bring the file at `url` to `target`, going on where an earlier try stopped.

    Args:
        url: http:// or https://.
        target: Where it goes; what has arrived so far is beside it, with the suffix ".partial".
        sha256: What its content must hash to.
        patience: How long to wait.
        bar: Whether to show a progress bar.

    Raises:
        ReleaseError: It cannot be had, or has another content. What has arrived is kept for the next try, unless it is
            known to be wrong.
    """
    patience = patience or Patience()
    partial = target.with_name(target.name + ".partial")
    # Bytes of an earlier try may be of another file; if the whole is wrong, one try from the start decides.
    for fresh in (not partial.exists(), True):
        _complete(url, partial, patience, bar)
        found = _hash(partial)
        if found == sha256:
            partial.replace(target)
            return
        partial.unlink()
        if fresh:
            break
    raise ReleaseError(
        f"{url} has SHA-256 {found}, its checksum file says {sha256}",
        next_step="Nothing was kept. Try again; if it stays so, the mirror or a proxy on the way changes the file.",
    )


def _complete(url: str, partial: Path, patience: Patience, bar: bool) -> None:
    # Not tqdm.auto, which in a notebook is a widget: that is gone when the notebook is opened again.
    from tqdm import tqdm

    end = time.monotonic() + patience.deadline
    furthest = _size(partial)
    fruitless = 0
    name = url.rpartition("/")[2]
    # A bar is drawn anew again and again; where that cannot be, a line now and then says as much.
    drawn = bar and (seen_live() or "ipykernel" in sys.modules)
    with (
        saying(f"fetching {name}") if bar and not drawn else nullcontext() as note,
        tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1024, disable=not drawn) as progress,
    ):
        if note is not None:
            note.ask(lambda: (f"{_size(partial) / 2**20:.1f} of {(progress.total or 0) / 2**20:.1f} MB", None))
        while True:
            try:
                return _once(url, partial, patience, end, progress)
            except _InterruptedError as interrupted:
                reason = str(interrupted)
            size = _size(partial)
            fruitless = 0 if size > furthest else fruitless + 1
            furthest = max(furthest, size)
            if fruitless >= patience.fruitless or time.monotonic() >= end:
                raise ReleaseError(
                    f"{url} stopped after {size / 2**20:.1f} MB: {reason}",
                    next_step="Run it again: it goes on where it stopped. " + OFFLINE,
                )


def _once(url: str, partial: Path, patience: Patience, end: float, progress: tqdm[Any]) -> None:
    have = _size(partial)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with _opened(url, headers, patience, resuming=bool(have)) as answer:
        if answer.status == 416:
            # There is nothing after what we have: all of it, or something else.
            if _total(answer) != have:
                partial.unlink()
                raise _InterruptedError("the file there is another one")
            return
        start = _start(answer) if answer.status == 206 else 0
        if start not in (0, have):
            raise _InterruptedError(f"asked for bytes from {have}, got them from {start}")
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        progress.total = total
        progress.n = start
        progress.refresh()
        with _room(partial), partial.open("ab" if start else "wb") as file:
            while chunk := _read(answer, patience):
                file.write(chunk)
                progress.update(len(chunk))
                if time.monotonic() > end:
                    raise _InterruptedError(f"not done after {patience.deadline:.0f} s")
    if total is not None and _size(partial) < total:
        raise _InterruptedError(f"the server ended at {_size(partial)} of {total} bytes")


def _read(answer: http.client.HTTPResponse, patience: Patience) -> bytes:
    try:
        # read1 gives what there is, so that the deadline holds for a server that drips as well.
        return answer.read1(_CHUNK)
    except TimeoutError:
        raise _InterruptedError(f"no byte for {patience.silence:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(str(error) or type(error).__name__) from None


@contextmanager
def _opened(
    url: str, headers: dict[str, str], patience: Patience, *, resuming: bool = False
) -> Iterator[http.client.HTTPResponse]:
    if not url.startswith(("http://", "https://")):
        raise ReleaseError(f"{url} is no http:// or https:// address", next_step="Check the setting of the mirror.")
    request = urllib.request.Request(url, headers={"User-Agent": "labkit", **headers})
    try:
        answer = urllib.request.urlopen(request, timeout=patience.silence)
    except urllib.error.HTTPError as error:
        if resuming and error.code == 416:
            with error:
                yield error  # type: ignore[misc]
            return
        error.close()
        if error.code >= 500 and resuming:
            raise _InterruptedError(f"the server answered {error.code} {_printable(error.reason)}") from None
        step = "Is that release there, and is the address of the downloads right? " if error.code == 404 else ""
        raise ReleaseError(
            f"{url}: the server answered {error.code} {_printable(error.reason)}", next_step=step + OFFLINE
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if resuming:
            raise _InterruptedError(str(reason) or type(reason).__name__) from None
        said = "no answer in time" if isinstance(reason, TimeoutError) else str(reason)
        raise ReleaseError(
            f"{url} cannot be reached: {said}", next_step="Check network and proxy. " + OFFLINE
        ) from None
    with answer:
        yield answer


@contextmanager
def _room(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ReleaseError(
            f"the disk is full: {path.parent} has no room for more than {_size(path) / 2**20:.1f} MB of {path.stem}",
            next_step="Make room, or set LABKIT_HOME to a folder on another disk; then run it again.",
        ) from None


def _start(answer: http.client.HTTPResponse) -> int:
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _total(answer: http.client.HTTPResponse) -> int:
    found = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _printable(said: object) -> str:
    """A server's own words, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(said)[:80])
