# SPDX-License-Identifier: Apache-2.0
"""Getting a file, answer by answer and without a network: what is asked for, what is kept, and what is said."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import io
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.ground import transfer
from labkit.ground.errors import ReleaseError
from labkit.ground.transfer import checksum_of, download, text

URL = "https://mirror.test/a.tar.gz"
CONTENT = b"0123456789"
SUM = hashlib.sha256(CONTENT).hexdigest()
HASH = "AB" * 32


class Answer(contextlib.nullcontext[Any]):
    """A server's answer: what it sends piece by piece, and where that ends by an error."""

    def __init__(self, *pieces: bytes | Exception, status: int = 200, **headers: str) -> None:
        super().__init__(self)
        self.pieces, self.status = list(pieces), status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def read1(self, most: int) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        assert len(piece) <= most
        return piece

    read = read1


def refusal(status: int, reason: str = "No", **headers: str) -> urllib.error.HTTPError:
    told = Message()
    for name, value in headers.items():
        told[name.replace("_", "-")] = value
    return urllib.error.HTTPError(URL, status, reason, told, io.BytesIO())


Says = Callable[..., list[urllib.request.Request]]


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Says:
    """Has a server say these things one after the other; gives the requests, as they come."""

    def script(*answers: Answer | Exception) -> list[urllib.request.Request]:
        asked: list[urllib.request.Request] = []
        left = list(answers)

        def urlopen(request: urllib.request.Request, *, timeout: float) -> Answer:
            assert timeout == 30
            asked.append(request)
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        return asked

    return script


def fetched(folder: Path, begun: bytes = b"") -> bytes:
    """What a download makes of what an earlier one has left."""
    if begun:
        (folder / "a.tar.gz.partial").write_bytes(begun)
    download(URL, folder / "a.tar.gz", SUM, bar=False)
    return (folder / "a.tar.gz").read_bytes()


def ranges(asked: list[urllib.request.Request]) -> list[str | None]:
    return [request.get_header("Range") for request in asked]


def test_a_download_says_who_asks_and_leaves_the_file_alone(says: Says, tmp_path: Path) -> None:
    asked = says(Answer(CONTENT, Content_Length="10"))
    assert fetched(tmp_path) == CONTENT
    assert [request.get_header("User-agent") for request in asked] == ["labkit"]
    assert ranges(asked) == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_server_that_is_busy_meanwhile_is_asked_again(says: Says, tmp_path: Path) -> None:
    """What is said before anything has come is said to the learner at once; a broken-off download has patience."""
    rest = Answer(CONTENT[4:], status=206, Content_Range="bytes 4-9/10", Content_Length="6")
    asked = says(Answer(CONTENT[:4], Content_Length="10"), refusal(500), rest)
    assert fetched(tmp_path) == CONTENT
    assert ranges(asked) == [None, "bytes=4-", "bytes=4-"]
    says(refusal(500, "Not\x1b[31m now"))
    with pytest.raises(ReleaseError, match=r"a\.tar\.gz: the server answered 500 Not\?\[31m now") as failure:
        fetched(tmp_path / "other")
    assert "Is that release there" not in str(failure.value)


def test_what_is_wrong_from_the_start_is_not_fetched_again(says: Says, tmp_path: Path) -> None:
    asked = says(Answer(b"other", Content_Length="5"))
    with pytest.raises(ReleaseError, match="Nothing was kept"):
        fetched(tmp_path)
    assert len(asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_of_the_rest_is_final(says: Says, tmp_path: Path) -> None:
    asked = says(refusal(499))
    with pytest.raises(ReleaseError, match="the server answered 499 No"):
        fetched(tmp_path, b"0123")
    assert len(asked) == 1
    assert (tmp_path / "a.tar.gz.partial").read_bytes() == b"0123"


def test_what_is_not_there_may_be_another_address(says: Says, tmp_path: Path) -> None:
    says(refusal(404))
    with pytest.raises(ReleaseError, match=r"(?s)answered 404 No.*Is that release there, and is the address"):
        fetched(tmp_path)


@pytest.mark.parametrize("told", [{"Content_Range": "bytes 3-9/10"}, {}])
def test_bytes_of_another_place_are_not_taken(says: Says, tmp_path: Path, told: dict[str, str]) -> None:
    says(*[Answer(CONTENT[1:], status=206, **told) for _ in range(2)])
    began = "3" if told else "-1"
    with pytest.raises(ReleaseError, match=f"stopped after 0.0 MB: asked for bytes from 1, got them from {began}"):
        fetched(tmp_path, b"0")
    assert (tmp_path / "a.tar.gz.partial").read_bytes() == b"0"


def test_where_nothing_is_left_to_send_the_sizes_must_agree(says: Says, tmp_path: Path) -> None:
    asked = says(refusal(416, Content_Range="bytes */10"))
    assert fetched(tmp_path, CONTENT) == CONTENT
    assert ranges(asked) == ["bytes=10-"]
    # A server that does not say how much there is may have another file.
    asked = says(refusal(416), Answer(CONTENT, Content_Length="10"))
    assert fetched(tmp_path, b"0") == CONTENT
    assert ranges(asked) == ["bytes=1-", None]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (ConnectionResetError(), "ConnectionResetError"),
        (http.client.IncompleteRead(b""), "IncompleteRead(0 bytes read)"),
        (TimeoutError("timed out"), "no byte for 30 s"),
    ],
)
def test_a_broken_connection_says_how_it_broke(says: Says, tmp_path: Path, fault: Exception, words: str) -> None:
    says(*[Answer(fault, Content_Length="10") for _ in range(2)])
    with pytest.raises(ReleaseError) as failure:
        fetched(tmp_path)
    assert failure.value.message == f"{URL} stopped after 0.0 MB: {words}"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (urllib.error.URLError(TimeoutError("timed out")), "no answer in time"),
        (urllib.error.URLError("no host given"), "no host given"),
        (http.client.RemoteDisconnected("gone"), "gone"),
    ],
)
def test_who_cannot_be_reached_is_told(says: Says, tmp_path: Path, fault: Exception, words: str) -> None:
    says(fault)
    with pytest.raises(ReleaseError) as failure:
        fetched(tmp_path)
    assert failure.value.message == f"{URL} cannot be reached: {words}"


def test_a_full_disk_says_how_much_there_was_room_for(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(Answer(b"x" * 200_000, b"x" * 200_000, OSError(errno.EDQUOT, "quota"), Content_Length="500000"))

    def without_room(answer: Answer, patience: object) -> bytes:
        return answer.read1(2**20)

    monkeypatch.setattr(transfer, "_read", without_room)
    with pytest.raises(ReleaseError, match=r"has no room for more than 0\.4 MB of a\.tar\.gz\n"):
        fetched(tmp_path)


def test_where_no_bar_can_be_drawn_a_line_says_how_far_it_is(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    megabyte = b"x" * 2**18
    told: list[tuple[str, None]] = []
    ask: list[Callable[[], tuple[str, None]]] = []

    class Watched(Answer):
        def read1(self, most: int) -> bytes:
            told.append(ask[0]())
            return super().read1(most)

    @contextlib.contextmanager
    def saying(words: str) -> Iterator[Any]:
        assert words == "fetching a.tar.gz"
        yield SimpleNamespace(ask=ask.append)
        told.append(ask[0]())

    monkeypatch.setattr(transfer, "saying", saying)
    monkeypatch.setattr(transfer, "seen_live", lambda: False)
    monkeypatch.delitem(transfer.sys.modules, "ipykernel", raising=False)  # type: ignore[attr-defined]
    content = megabyte * 6
    says(Watched(*[megabyte] * 6, Content_Length=str(len(content))))
    download(URL, tmp_path / "a.tar.gz", hashlib.sha256(content).hexdigest())
    assert told[0] == ("0.0 of 1.5 MB", None)
    # What has been written is on the disk by then at the latest.
    assert told[-1] == ("1.5 of 1.5 MB", None)
    assert capsys.readouterr().err == ""


def test_a_bar_is_drawn_in_a_notebook_and_nowhere_if_it_is_not_wanted(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transfer, "seen_live", lambda: False)
    monkeypatch.setitem(transfer.sys.modules, "ipykernel", SimpleNamespace())  # type: ignore[attr-defined]
    says(Answer(CONTENT, Content_Length="10"))
    download(URL, tmp_path / "a.tar.gz", SUM)
    assert "a.tar.gz: 100%" in capsys.readouterr().err
    monkeypatch.delitem(transfer.sys.modules, "ipykernel")  # type: ignore[attr-defined]
    monkeypatch.setattr(transfer, "saying", lambda words: pytest.fail(words))
    says(Answer(CONTENT, Content_Length="10"))
    download(URL, tmp_path / "a.tar.gz", SUM, bar=False)
    assert capsys.readouterr().err == ""


def test_a_text_is_bounded_and_what_is_no_utf_8_is_replaced(says: Says) -> None:
    says(Answer(b"sum \xff"))
    assert text(URL) == "sum \N{REPLACEMENT CHARACTER}"
    says(Answer(ConnectionResetError("gone")))
    with pytest.raises(ReleaseError, match=r"a\.tar\.gz: the connection ended early: gone"):
        text(URL)


def test_only_web_addresses_are_asked(says: Says) -> None:
    asked = says(Answer(b"a"), Answer(b"b"))
    assert [text("http://mirror.test/a"), text("https://mirror.test/a")] == ["a", "b"]
    with pytest.raises(ReleaseError, match=r"ftp://mirror\.test/a is no http:// or https:// address"):
        text("ftp://mirror.test/a")
    assert len(asked) == 2


@pytest.mark.parametrize(
    "line",
    [f"{HASH}", f"{HASH}  a.tar.gz", f"{HASH} *a.tar.gz", f"  {HASH}  ./dist/a.tar.gz  ", f"x\n{HASH}  a.tar.gz"],
)
def test_a_checksum_is_found_in_what_tools_write(line: str) -> None:
    assert checksum_of(line, "a.tar.gz", "sums.txt") == HASH.lower()


@pytest.mark.parametrize("line", ["", f"{HASH}  b.tar.gz", f"{HASH}0  a.tar.gz", f"{HASH[1:]}  a.tar.gz"])
def test_a_checksum_of_something_else_is_none(line: str) -> None:
    with pytest.raises(ReleaseError, match=r"sums\.txt has no SHA-256 of a\.tar\.gz"):
        checksum_of(line, "a.tar.gz", "sums.txt")
