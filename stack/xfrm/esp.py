"""net/ipv4/esp4.c, net/ipv6/esp6.c: the format of ESP (RFC 4303).

| SPI 4 | sequence number 4 | IV |
| payload | padding 0..255 | pad length 1 | next header 1 |     encrypted
| ICV |
"""

from __future__ import annotations

from stack.core.rows import wide
from stack.inet.espinudp import ESP_HLEN
from stack.xfrm.xfrm_algo import Esp

PADDING = bytes(range(1, 256))


def esp_output(esp: Esp, spi: int, number: wide, esn: bool, nexthdr: int, payload: bytes) -> bytes:
    """net/ipv4/esp4.c: ESP of a payload. `number`: its sequence number, with ESN of 64 bits."""
    align = max(esp.block, 4)
    pad = -(len(payload) + 2) % align
    plain = payload + PADDING[:pad] + bytes((pad, nexthdr))
    raw, low = spi.to_bytes(4, "big"), (number & 0xFFFFFFFF).to_bytes(4, "big")
    high = (number >> 32).to_bytes(4, "big") if esn else b""
    return raw + low + esp.seal(raw, low, high, number, plain)


def esp_input(esp: Esp, data: bytes, number: wide, esn: bool) -> tuple[int, bytes]:
    """net/ipv4/esp4.c: (next header, payload) of ESP. `number` as in esp_output.

    Raises: ValueError: it is truncated or its padding is wrong; EspTampered.
    """
    if len(data) < ESP_HLEN + esp.iv_bytes + 2 + esp.icv_bytes:
        raise ValueError("cut off")
    high = (number >> 32).to_bytes(4, "big") if esn else b""
    plain = esp.open(data[:4], data[4:8], high, data[8:])
    pad, nexthdr = plain[-2], plain[-1]
    if pad + 2 > len(plain):
        raise ValueError("more padding than there is")
    return nexthdr, plain[: len(plain) - 2 - pad]
