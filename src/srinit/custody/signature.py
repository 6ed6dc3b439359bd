"""A detached signature of a run's seal: what nobody can make anew who has no private key.

Whoever may write to a run folder and to the registry can write both anew, hashes included. A
signature by a key that lies elsewhere is the one thing that cannot be made anew with them. Keys
are Ed25519 (RFC 8032), in PEM or OpenSSH form.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from srinit import records
from srinit.errors import ConfigError, IntegrityError, require
from srinit.records import record
from srinit.store import audit
from srinit.store.files import read_once, write_text
from srinit.store.seal import AUDIT, SIGNATURE, Seal

SCHEMA = "srinit.signature/1"
MAKE = "openssl genpkey -algorithm ed25519 -out KEY; openssl pkey -in KEY -pubout -out PUB"
MAX_KEY_BYTES = 1 << 16


@record
class Signature:
    """What was signed, and the signature; beside the files of the run, and not among them."""

    root: str  # of the seal
    seal: str  # hash of the seal's entry in the audit log
    entries: int  # of the audit log when it was signed
    head: str  # hash of the last of them
    key: str  # fingerprint of the public key
    signature: str  # Ed25519, in hexadecimal

    def message(self) -> bytes:
        """Return the bytes that are signed."""
        lines = (SCHEMA, self.root, self.seal, str(self.entries), self.head, self.key)
        return "\n".join(lines).encode()


def sign(seal: Seal, key: Path) -> Signature:
    """Sign a seal and the audit log as it is now; kept in the run folder as `seal.sig.json`.

    Signed again, it covers what the log told since.

    Args:
        seal: Of the run, checked.
        key: File with the private key.

    Raises:
        MissingExtraError: The package `cryptography` is not installed.
        ConfigError: The file holds no Ed25519 private key, or one with a password.
    """
    private: Any = _load(key, private=True)
    log = audit.read(seal.folder / AUDIT)
    unsigned = Signature(
        root=seal.root,
        seal=seal.entry_hash,
        entries=len(log.entries),
        head=log.head,
        key=fingerprint(private.public_key()),
        signature="",
    )
    body = {**records.plain(unsigned), "signature": private.sign(unsigned.message()).hex()}
    made = Signature(**body)
    write_text(seal.folder / SIGNATURE, records.to_json(made, schema=SCHEMA))
    return made


def check(seal: Seal, key: Path) -> str:
    """Return the fingerprint of the public key that signed a seal.

    Raises:
        IntegrityError: The run is not signed, by another key, or is not what was signed.
        ConfigError: The file holds no Ed25519 public key.
    """
    public: Any = _load(key, private=False)
    from cryptography.exceptions import InvalidSignature

    path = seal.folder / SIGNATURE
    if not path.is_file() or path.is_symlink():
        raise IntegrityError(f"{seal.folder} is not signed; srinit seal RUN --key KEY signs it.")
    found = records.from_json(Signature, read_once(path), schema=SCHEMA, where=str(path))
    try:
        if found.key != fingerprint(public):
            raise InvalidSignature
        public.verify(bytes.fromhex(found.signature), found.message())
    except (InvalidSignature, ValueError):
        raise IntegrityError(
            f"{path} was not made by the key {key} ({fingerprint(public)}), or was edited."
        ) from None
    entries = seal.log.entries
    if (found.root, found.seal) != (seal.root, seal.entry_hash):
        raise IntegrityError(f"{seal.folder} is not the run that was signed: its seal is another.")
    if len(entries) < found.entries or entries[found.entries - 1]["hash"] != found.head:
        raise IntegrityError(
            f"{seal.folder / AUDIT} is not the log that was signed, or its end was cut off."
        )
    return found.key


def fingerprint(public: Any) -> str:
    """Return the SHA-256 of a public key's 32 bytes, in hexadecimal."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()


def _load(path: Path, *, private: bool) -> Any:
    require("cryptography", "sign", "to sign a seal, or to check its signature")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        content = path.read_bytes()[:MAX_KEY_BYTES]
    except OSError as error:
        raise ConfigError(f"cannot read the key {path}: {error.strerror}.") from None
    kind: Any = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    what = "private" if private else "public"
    try:
        found: Any = (
            _private(content, forms)
            if private
            else forms.load_ssh_public_key(content)
            if content.startswith(b"ssh-")
            else forms.load_pem_public_key(content)
        )
    except TypeError:
        raise ConfigError(
            f"{path} is locked by a password; sign with a key that has none, kept where only you "
            "can read it."
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, kind):
        raise ConfigError(f"{path} holds no Ed25519 {what} key. A pair is made by: {MAKE}")
    return found


def _private(content: bytes, forms: Any) -> Any:
    if b"OPENSSH PRIVATE KEY" in content:
        return forms.load_ssh_private_key(content, password=None)
    return forms.load_pem_private_key(content, password=None)
