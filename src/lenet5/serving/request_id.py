"""Identifiers of requests that prove where they come from.

A person who says "this answer is wrong" names a request. An identifier holds the time, a random part and a
checksum with the secret of the service. So each worker process can tell an identifier that the service gave
from an invented one, without a search through the log.
"""

import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

from lenet5.core import files

_TIME, _RANDOM, _CHECK = 6, 8, 6
"""Number of bytes of each part."""
LENGTH = 2 * (_TIME + _RANDOM + _CHECK)
"""Characters of an identifier."""


class RequestIds:
    """Gives identifiers and checks them."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of_folder(cls, folder: Path) -> "RequestIds":
        """Use the secret in a folder, which only its owner can read; create it if there is none."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "request-ids.secret"
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
        for _ in range(50):  # another worker process may be about to write it
            content = files.read_bytes(path)
            if len(content) == 32:
                return cls(content)
            time.sleep(0.02)
        path.unlink()
        return cls.of_folder(folder)

    def new(self) -> str:
        """Return an identifier of 40 hexadecimal digits; later ones are larger, up to a millisecond."""
        begin = (time.time_ns() // 1_000_000).to_bytes(_TIME, "big") + os.urandom(_RANDOM)
        return (begin + self._checksum(begin)).hex()

    def is_ours(self, identifier: str) -> bool:
        """Return whether this service gave an identifier."""
        try:
            content = bytes.fromhex(identifier)
        except ValueError:
            return False
        begin, check = content[: _TIME + _RANDOM], content[_TIME + _RANDOM :]
        return len(identifier) == LENGTH and hmac.compare_digest(check, self._checksum(begin))

    def _checksum(self, begin: bytes) -> bytes:
        return hashlib.blake2b(begin, key=self._secret, digest_size=_CHECK).digest()
