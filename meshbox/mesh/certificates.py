# SPDX-License-Identifier: Apache-2.0
"""The mesh's certificate authority, and the identity it gives to each service account."""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from labkit.ground import files
from labkit.ground.errors import SandboxError
from meshbox import kept
from meshbox.contracts import Objects
from meshbox.mesh.plugged import Signer, files_of, plugged

__all__ = ["Authority", "Identity"]

log = logging.getLogger(__name__)

ROOT_LIFETIME = datetime.timedelta(days=3650)
LIFETIME = datetime.timedelta(hours=24)
LEGACY_LIFETIME = datetime.timedelta(days=90)
"""Of a workload's certificate: istiod's and Citadel's. A new one is made when half of it is over."""

_SKEW = datetime.timedelta(minutes=2)
"""By which istiod has a certificate begin earlier, for clocks that are slow."""


class Identity(Struct, frozen=True):
    """A workload's certificate and key.

    Args:
        chain: The certificate, what stands between it and the root, and the root, in PEM.
        key: The private key, in PEM.
        renew: When to ask for the next one.
    """

    chain: str
    key: str
    renew: datetime.datetime


class Authority:
    """Signs SPIFFE identities; its own key stays on disk, so that identities outlive a restart of the sandbox.

    Args:
        folder: Where its key and certificate are kept (mode 0600).
        lifetime: How long an identity is valid: 24 hours today, 90 days from Istio 1.2's Citadel.
    """

    def __init__(self, folder: Path, lifetime: datetime.timedelta = LIFETIME) -> None:
        self._folder = folder
        self._lifetime = lifetime
        self._own: Signer | None = None
        self._files: Mapping[str, bytes] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called when it signs for somebody else from now on."""
        self._signer: Signer | None = None
        self._identities: dict[tuple[str, tuple[str, ...]], Identity] = {}

    def load(self) -> None:
        """Read the key and certificate, or make them.

        A certificate that is damaged, has expired or belongs to another key is made again with the key that is there.
        A key that is damaged is moved aside and replaced: identities are issued at each start anyway, and whoever must
        trust the authority (proxies, Citadel's Secrets, istiod's ConfigMaps) is told its certificate at each start.

        Raises:
            SandboxError: the folder cannot be written.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SandboxError(
                f"{self._folder} cannot be made: {error.strerror}",
                next_step=f"look at what is at that place; it must be a folder, in {self._folder.parent}",
            ) from error
        key_file, file = self._folder / "ca-key.pem", self._folder / "ca-cert.pem"
        key = self._sound_key(key_file)
        private = key or ec.generate_private_key(ec.SECP256R1())
        found = None if key is None else self._sound_certificate(file, key)
        certificate = found or self._self_signed(private)
        root = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self._own = self._signer = Signer(private, certificate, "", root)
        # The key first: without its certificate it is as good; a certificate without its key is good for nothing.
        if key is None:
            kept.put(key_file, _pem(private))
        if found is None:
            kept.put(file, root)

    def adopt(self, files: Mapping[str, bytes]) -> None:
        """Sign for the authority in `files` from now on, or with the own key where they hold none.

        Raises:
            ValueError: they cannot be used, and nothing has changed; in istiod's words.
        """
        self._signer = plugged(files) or self._own
        self._files = files
        self._identities.clear()
        self.changed()

    def follow(self, objects: Objects) -> None:
        """Take what has changed of the authority that is plugged in, as long as all trust the same root.

        As istiod does, which looks at no files where it signs for itself; identities that are there stay until renewed.
        """
        if self._signer is self._own or (files := files_of(objects)) == self._files:
            return
        self._files = files
        with contextlib.suppress(ValueError):
            found = plugged(files)
            if found is not None and found.root == self.root:
                self._signer = found

    @staticmethod
    def _sound_key(file: Path) -> ec.EllipticCurvePrivateKey | None:
        try:
            key = serialization.load_pem_private_key(files.read(file), None)
            if isinstance(key, ec.EllipticCurvePrivateKey):
                return key
            problem = "it is not an EC key"
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            problem = "it is no private key in PEM"
        try:
            where = files.aside(file)
        except OSError as error:
            raise SandboxError(
                f"{file} is damaged, and cannot be moved aside: {error.strerror}", next_step=f"remove {file}"
            ) from error
        log.warning("the mesh's authority has a new key, as %s was damaged: it is now %s (%s)", file, where, problem)
        return None

    @staticmethod
    def _sound_certificate(file: Path, key: ec.EllipticCurvePrivateKey) -> x509.Certificate | None:
        """The authority's certificate in `file`, if it is its own, for `key`, and good for longer than an identity."""
        try:
            certificate = x509.load_pem_x509_certificate(files.read(file))
            certificate.verify_directly_issued_by(certificate)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, InvalidSignature) as error:
            log.warning("%s is damaged, and is made again (%s)", file, type(error).__name__)
            return None
        soon = datetime.datetime.now(datetime.UTC) + LEGACY_LIFETIME
        if certificate.public_key() == key.public_key() and certificate.not_valid_after_utc > soon:
            return certificate
        log.warning("%s is made again: it belonged to another key, or was about to expire", file)
        return None

    @property
    def root(self) -> str:
        """The certificate that all trust, in PEM."""
        assert self._signer is not None, "load() comes first"
        return self._signer.root

    def identity(self, spiffe: str, now: datetime.datetime | None = None, *names: str) -> Identity:
        """The current certificate for `spiffe` and for DNS `names`, the same one until it is time for the next."""
        now = now or datetime.datetime.now(datetime.UTC)
        known = self._identities.get((spiffe, names))
        if known is None or now >= known.renew:
            known = self._identities[spiffe, names] = self.issue(spiffe, now, *names)
        return known

    def issue(self, spiffe: str, now: datetime.datetime | None = None, *names: str) -> Identity:
        """A new certificate for `spiffe` and for DNS `names`."""
        assert self._signer is not None, "load() comes first"
        signer = self._signer
        now = now or datetime.datetime.now(datetime.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        known_as = [x509.UniformResourceIdentifier(spiffe), *map(x509.DNSName, names)]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(signer.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + self._lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True, key_encipherment=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_issuer(signer.certificate), critical=False)
            # Critical, because the subject is empty (RFC 5280, 4.2.1.6).
            .add_extension(x509.SubjectAlternativeName(known_as), critical=True)
            .sign(signer.key, hashes.SHA256())
        )
        chain = certificate.public_bytes(serialization.Encoding.PEM).decode() + signer.chain + signer.root
        return Identity(chain, _pem(key), now + self._lifetime / 2)

    def _self_signed(self, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "cluster.local")])
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + ROOT_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )


def _issuer(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """By what an identity names its signer's key: as the signer's certificate does itself."""
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(certificate.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)


def _usage(**what: bool) -> x509.KeyUsage:
    nothing = dict.fromkeys(("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
    nothing |= dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment"), False)
    nothing |= dict.fromkeys(("data_encipherment", "key_agreement"), False)
    return x509.KeyUsage(**(nothing | what))


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
