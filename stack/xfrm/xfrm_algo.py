"""net/xfrm/xfrm_algo.c, crypto/: the algorithms of ESP, as rows, and their implementations.

AES needs the package `cryptography`, an extra; hashes are from the standard library.
"""

from __future__ import annotations

import errno
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from stack.core.rows import wide

EXTRA = "AES needs the package cryptography; run: pip install 'e1000emu[ipsec]'"


class EspTampered(ValueError):
    """A packet's integrity check value is wrong (-EBADMSG)."""


class XfrmAlgoError(OSError):
    """An algorithm cannot be used: its name, its key or a package that is missing."""


@dataclass(frozen=True, slots=True)
class xfrm_algo_desc:
    """struct xfrm_algo_desc: an algorithm. Sizes are in bits; `keys` () takes any.

    `icv` are the lengths of an integrity check value. For a hash they are the usual one
    and the longest; all between are also valid.
    """

    name: str
    compat: str = ""
    keys: tuple[int, ...] = ()
    icv: tuple[int, ...] = ()
    hash: str = ""
    iv: int = 0
    block: int = 8


AEADS = (xfrm_algo_desc("rfc4106(gcm(aes))", "", (160, 224, 288), (64, 96, 128), iv=64),)
"""Keys end with 32 bits of salt (RFC 4106 8.1)."""
AUTHS = (
    xfrm_algo_desc("digest_null", icv=(0,)),
    xfrm_algo_desc("hmac(md5)", "md5", icv=(96, 128), hash="md5"),
    xfrm_algo_desc("hmac(sha1)", "sha1", icv=(96, 160), hash="sha1"),
    xfrm_algo_desc("hmac(sha256)", "sha256", icv=(96, 256), hash="sha256"),
    xfrm_algo_desc("hmac(sha384)", icv=(192, 384), hash="sha384"),
    xfrm_algo_desc("hmac(sha512)", icv=(256, 512), hash="sha512"),
)
CRYPTS = (
    xfrm_algo_desc("ecb(cipher_null)", "cipher_null", (0,)),
    xfrm_algo_desc("cbc(aes)", "aes", (128, 192, 256), iv=128, block=128),
)


def xfrm_find_algo(rows: tuple[xfrm_algo_desc, ...], name: str) -> xfrm_algo_desc | None:
    """net/xfrm/xfrm_algo.c: find an algorithm by its name or old name."""
    return next((one for one in rows if name and name in (one.name, one.compat)), None)


class Esp(Protocol):
    """How a state protects bytes. Sizes are in bytes.

    `spi`, `low` and `high` are the SPI and both halves of the sequence number as on the wire;
    `high` is b"" without extended ones. `number` is the whole of it.
    """

    iv_bytes: int
    block: int
    icv_bytes: int

    def seal(self, spi: bytes, low: bytes, high: bytes, number: wide, plain: bytes) -> bytes:
        """The initialisation vector, ciphertext and integrity check value."""
        ...

    def open(self, spi: bytes, low: bytes, high: bytes, data: bytes) -> bytes:
        """The plaintext of seal's output. Raises: EspTampered."""
        ...


def aes_module(name: str) -> Any:
    """A module of `cryptography`. Raises: XfrmAlgoError ENOSYS, which names the extra."""
    try:
        return import_module(f"cryptography.hazmat.primitives.ciphers{name}")
    except ImportError:
        raise XfrmAlgoError(errno.ENOSYS, EXTRA) from None


class esp_gcm:
    """AES-GCM (RFC 4106). The sequence number is the IV, which is unique per key."""

    def __init__(self, key: bytes, icv_bits: int) -> None:
        self.ciphers = aes_module("")
        self.modes = aes_module(".modes")
        self.key, self.salt = key[:-4], key[-4:]
        self.aes = aes_module(".algorithms").AES(self.key)
        self.gcm = aes_module(".aead").AESGCM(self.key)
        self.iv_bytes, self.block, self.icv_bytes = 8, 1, icv_bits // 8

    def seal(self, spi: bytes, low: bytes, high: bytes, number: wide, plain: bytes) -> bytes:
        """As Esp."""
        iv = number.to_bytes(8, "big")
        sealed: bytes = self.gcm.encrypt(self.salt + iv, plain, spi + high + low)
        return iv + sealed[: len(plain) + self.icv_bytes]

    def open(self, spi: bytes, low: bytes, high: bytes, data: bytes) -> bytes:
        """As Esp."""
        tag = data[len(data) - self.icv_bytes :]
        mode = self.modes.GCM(self.salt + data[:8], tag, min_tag_length=self.icv_bytes)
        opener = self.ciphers.Cipher(self.aes, mode).decryptor()
        opener.authenticate_additional_data(spi + high + low)
        plain: bytes = opener.update(data[8 : len(data) - self.icv_bytes])
        try:
            opener.finalize()
        except Exception:  # InvalidTag
            raise EspTampered("the integrity check value is wrong") from None
        return plain


class esp_authenc:
    """A cipher, then a hash over header and ciphertext (RFC 4303 3.3.2.1)."""

    def __init__(
        self,
        crypt: xfrm_algo_desc,
        key: bytes,
        auth: xfrm_algo_desc | None,
        auth_key: bytes,
        icv_bits: int,
    ) -> None:
        self.hash = auth.hash if auth is not None else ""
        self.auth_key = auth_key
        self.iv_bytes, self.block, self.icv_bytes = crypt.iv // 8, crypt.block // 8, icv_bits // 8
        self.cipher: Callable[[bytes], Any] | None = None
        if crypt.iv:
            made, modes = aes_module(""), aes_module(".modes")
            aes = aes_module(".algorithms").AES(key)
            self.cipher = lambda iv: made.Cipher(aes, modes.CBC(iv))

    def icv(self, spi: bytes, low: bytes, high: bytes, data: bytes) -> bytes:
        """The integrity check value; the high half of the number comes last (RFC 4303 2.2.1)."""
        if not self.hash:
            return b""
        whole = spi + low + data + high
        return hmac.digest(self.auth_key, whole, self.hash)[: self.icv_bytes]

    def seal(self, spi: bytes, low: bytes, high: bytes, number: wide, plain: bytes) -> bytes:
        """As Esp."""
        data = plain
        if self.cipher is not None:
            iv = os.urandom(self.iv_bytes)
            data = iv + self.cipher(iv).encryptor().update(plain)
        return data + self.icv(spi, low, high, data)

    def open(self, spi: bytes, low: bytes, high: bytes, data: bytes) -> bytes:
        """As Esp."""
        at = len(data) - self.icv_bytes
        data, icv = data[:at], data[at:]
        if not hmac.compare_digest(icv, self.icv(spi, low, high, data)):
            raise EspTampered("the integrity check value is wrong")
        if self.cipher is None:
            return data
        if (len(data) - self.iv_bytes) % self.block:
            raise ValueError("the ciphertext is not made of blocks")
        plain: bytes = self.cipher(data[: self.iv_bytes]).decryptor().update(data[self.iv_bytes :])
        return plain
