# SPDX-License-Identifier: Apache-2.0
"""What a client sees of TLS: servers of our own, whose certificates somebody else's library has made."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from labkit.cluster.target import end_lesson
from labkit.ground.errors import SettingError
from labkit.observe.handshakes import Following, shake
from tests.conftest import PATIENCE, wait_until

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


class Pair(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Authority:
    """Signs, and writes what it has signed into a folder.

    Args:
        folder: The folder.
        name: Its name; its certificate is NAME.crt there.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.file = folder / f"{name}.crt"
        self._own: Pair | None = None
        self._own = self.issue(name)

    def issue(self, name: str, *hosts: str) -> Pair:
        """A certificate, written to NAME.crt with its key in NAME.key."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder(subject_name=subject, public_key=key.public_key())
            .issuer_name(self._own.certificate.subject if self._own else subject)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=self._own is None, path_length=None), critical=True)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), False)
        made = Pair(builder.sign(self._own.key if self._own else key, hashes.SHA256()), key)
        pem = serialization.Encoding.PEM
        (self.folder / f"{name}.crt").write_bytes(made.certificate.public_bytes(pem))
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(pem, *form))
        return made

    def context(self, name: str, clients: Authority | None = None) -> ssl.SSLContext:
        """A server's side with the certificate of that name; `clients` signs those that clients must show."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients.file)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("keys"), "authority")
    made.issue("books", "books.test", "*.shop.test")
    return made


@contextmanager
def serving(context: Callable[[], ssl.SSLContext | None]) -> Iterator[tuple[str, int]]:
    """A way to a server that speaks TLS as `context` says at each connection; with None it hangs up at once."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def answer(plain: socket.socket, chosen: ssl.SSLContext) -> None:
        try:
            with chosen.wrap_socket(plain, server_side=True) as secured:
                if secured.recv(65536):
                    secured.sendall(ANSWER)
        except OSError:
            pass  # The client does not like what it saw, or is not liked.

    def work() -> None:
        while not over.is_set():
            plain, _ = listener.accept()
            with plain:
                chosen = context()
                if chosen is not None:
                    plain.settimeout(60)
                    answer(plain, chosen)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    try:
        yield "127.0.0.1", port
    finally:
        over.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()
        listener.close()


def test_names_serial_and_status_are_seen(authority: Authority) -> None:
    serial = x509.load_pem_x509_certificate((authority.folder / "books.crt").read_bytes()).serial_number
    context = authority.context("books")
    urls = ["https://books.test/page", "https://one.shop.test/", "https://two.one.shop.test/", "https://other.test/"]
    with serving(lambda: context) as way:
        seen = shake(urls, way, trust=authority.file)
    assert list(seen.index) == urls
    assert list(seen["answer"]) == ["200", "200", "wrong name", "wrong name"]
    assert set(seen["shown"]) == {"books.test, *.shop.test"}
    assert {int(one, 16) for one in seen["serial"]} == {serial}
    assert {str(kind) for kind in seen.dtypes} == {"str"}


def test_an_authority_that_nobody_trusts(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    context = authority.context("books")
    with serving(lambda: context) as way:
        seen = shake(["https://books.test/"], way, trust=other.file).iloc[0]
    assert seen["answer"].startswith("not trusted: ")
    assert (seen["shown"], seen["serial"]) == ("", "")


def test_who_hangs_up_and_who_is_not_there(authority: Authority) -> None:
    with serving(lambda: None) as way:
        assert shake(["https://books.test/"], way, trust=authority.file)["answer"].iloc[0] == "reset"
    with socket.socket() as bound:
        # A port that is taken, and where nobody listens.
        bound.bind(("127.0.0.1", 0))
        way = "127.0.0.1", bound.getsockname()[1]
        assert shake(["https://books.test/"], way, trust=authority.file)["answer"].iloc[0] == "refused"


def test_a_client_shows_its_certificate(authority: Authority, tmp_path: Path) -> None:
    partners = Authority(tmp_path, "partners")
    partners.issue("partner")
    context = authority.context("books", partners)
    clients = {
        None: "certificate required",
        tmp_path / "partner.crt": "200",
        authority.folder / "books.crt": "unknown ca",
    }
    with serving(lambda: context) as way:
        for client, answer in clients.items():
            seen = shake(["https://books.test/"], way, trust=authority.file, client=client).iloc[0]
            assert (seen["answer"], seen["shown"]) == (answer, "books.test, *.shop.test")


def test_a_renewal_is_followed(authority: Authority) -> None:
    contexts = [authority.context("books")]
    with serving(lambda: contexts[-1]) as way:
        visitor = Following("https://books.test/", way, trust=authority.file)
        wait_until(lambda: len(visitor.serials) == 1, what="a first handshake")
        renewed = authority.issue("books", "books.test", "*.shop.test").certificate
        contexts.append(authority.context("books"))
        wait_until(lambda: len(visitor.serials) == 2, what="the new certificate")
        visitor.stop()
        seen = visitor.seen
        assert (seen["answer"] == "200").all()
        assert seen["time"].is_monotonic_increasing
        assert int(seen["serial"].iloc[-1], 16) == renewed.serial_number
        assert len(visitor.seen) == len(seen)


def test_it_ends_with_its_lesson(authority: Authority) -> None:
    context = authority.context("books")
    with serving(lambda: context) as way:
        visitor = Following("https://books.test/", way, trust=authority.file)
        wait_until(lambda: visitor.serials, what="a first handshake")
        end_lesson()
        visitor._thread.join(timeout=PATIENCE)
        assert not visitor._thread.is_alive()


def test_what_cannot_be_asked_is_told(authority: Authority, tmp_path: Path) -> None:
    nowhere = "127.0.0.1", 1
    with pytest.raises(SettingError, match="is no https:// address"):
        shake(["http://books.test/"], nowhere, trust=authority.file)
    with pytest.raises(SettingError, match="is no https:// address"):
        Following("http://books.test/", nowhere, trust=authority.file)
    with pytest.raises(SettingError, match=r"lacking\.crt cannot be used"):
        shake([], nowhere, trust=tmp_path / "lacking.crt")
    with pytest.raises(SettingError, match=r"mine\.crt cannot be used"):
        shake([], nowhere, trust=authority.file, client=tmp_path / "mine.crt")
