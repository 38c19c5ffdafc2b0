# SPDX-License-Identifier: Apache-2.0
"""Unpacking an archive from elsewhere: nothing lands outside its folder, and a half-unpacked folder is never seen."""

from __future__ import annotations

import errno
import posixpath
import shutil
import tarfile
import tempfile
import unicodedata
from pathlib import Path

from labkit.ground.errors import ReleaseError

__all__ = ["unpack"]

_SIZE_LIMIT = 2 * 2**30
_COUNT_LIMIT = 50_000
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a .tar.gz into folder `target`, all or nothing; a single folder at its top is left out.

    Args:
        archive: The archive.
        target: The folder that will hold its content; what was there is replaced.

    Returns:
        `target`.

    Raises:
        ReleaseError: It is broken, or something in it would land elsewhere, or the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        content = _extract(archive, scratch / "content")
        if target.exists():
            target.rename(scratch / "old")
        content.rename(target)
    except (tarfile.TarError, EOFError) as error:
        raise ReleaseError(f"{archive} is no readable .tar.gz: {error}", next_step="Fetch it again.") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ReleaseError(
            f"the disk is full: {target.parent} has no room for what is in {archive.name}",
            next_step="Make room, or set LABKIT_HOME to a folder on another disk.",
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _extract(archive: Path, folder: Path) -> Path:
    folder.mkdir()
    with tarfile.open(archive, "r:gz") as tar:
        members = []
        links: set[str] = set()
        size = 0
        for member in tar:
            wrong = _wrong(member, links)
            if wrong:
                raise ReleaseError(
                    f"{archive.name}: {member.name!r} {wrong}; nothing was unpacked",
                    next_step="Do not use this archive.",
                )
            size += member.size
            members.append(member)
            if size > _SIZE_LIMIT or len(members) > _COUNT_LIMIT:
                raise ReleaseError(f"{archive.name} holds more than a release of Istio can", next_step="Is it the one?")
        # The first versions of Python 3.11 know no filters; the check above does not rely on them.
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, members, filter="data")
        else:
            tar.extractall(folder, members)
    tops = list(folder.iterdir())
    return tops[0] if len(tops) == 1 and tops[0].is_dir() and not tops[0].is_symlink() else folder


def _wrong(member: tarfile.TarInfo, links: set[str]) -> str:
    """Why `member` must not be unpacked; "" if it may."""
    if any(unicodedata.category(letter) in _UNSEEN for letter in member.name + member.linkname):
        # A name that a terminal obeys, or that shows as another.
        return "has control characters in its name"
    name = posixpath.normpath(member.name)
    parents = {name[:at] for at, letter in enumerate(name) if letter == "/"}
    if _outside(name) or parents & links:
        return "lands outside the folder"
    if member.issym():
        leads_to = posixpath.join(posixpath.dirname(name), member.linkname)
        links.add(name)
    elif member.islnk():
        leads_to = member.linkname
    else:
        return "" if member.isfile() or member.isdir() else "is neither file, folder nor link"
    # Behind a name, ".." leads on from wherever that name is a link to.
    astray = ".." in member.linkname.lstrip("./").split("/") or _outside(posixpath.normpath(leads_to))
    return f"is a link to {member.linkname!r}, outside the folder" if astray else ""


def _outside(name: str) -> bool:
    return name == ".." or name.startswith(("/", "../"))
