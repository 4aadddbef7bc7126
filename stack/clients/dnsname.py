"""Domain names: on the wire with compression (RFC 1035 3.1, 4.1.4), as text with escapes (5.1).

A name is a tuple of its labels, each of bytes, without the empty one of the root. Names compare
without regard to the case of ASCII letters (RFC 4343): compare what `folded` returns.
"""

from __future__ import annotations

from typing import TypeAlias

from stack.clients.action import MessageError

Name: TypeAlias = tuple[bytes, ...]

MAX_LABEL_BYTES = 63
MAX_NAME_BYTES = 255
"""On the wire, with the length bytes and the root's."""
MAX_POINTER = 0x3FFF


def wire_length(name: Name) -> int:
    """Bytes of `name` on the wire, uncompressed."""
    return sum(map(len, name)) + len(name) + 1


def checked(name: Name) -> Name:
    """Return `name`.  Raises: MessageError for a label or a name that is too long or empty."""
    for label in name:
        if not 0 < len(label) <= MAX_LABEL_BYTES:
            raise MessageError(
                f"a label of {len(label)} bytes; 1 to {MAX_LABEL_BYTES} are possible"
            )
    if wire_length(name) > MAX_NAME_BYTES:
        raise MessageError(f"a name of {wire_length(name)} bytes; {MAX_NAME_BYTES} are possible")
    return name


def folded(name: Name) -> Name:
    """`name` with its ASCII letters in lower case (RFC 4343)."""
    return tuple(label.lower() for label in name)


def parse_name(message: bytes, offset: int, end: int | None = None) -> tuple[Name, int]:
    """The name at `offset` and the offset after it.

    `end` limits the part read in place (such as a record's RDATA); pointers may be to any earlier
    place. Each pointer must point before the piece of the name that it ends, so no
    message can loop, and a name of more than 255 bytes ends the parsing.

    Raises: MessageError.
    """
    limit = len(message) if end is None else min(end, len(message))
    labels: list[bytes] = []
    total = 1
    after = -1
    start = at = offset  # of the piece that is being read
    while True:
        if at >= limit:
            raise MessageError(f"the name at {offset} ends beyond {limit}")
        size = message[at]
        kind = size & 0xC0
        if kind == 0xC0:
            if at + 2 > limit:
                raise MessageError(f"the pointer at {at} ends beyond {limit}")
            target = (size & 0x3F) << 8 | message[at + 1]
            if target >= start:
                raise MessageError(f"the pointer at {at} points to {target}, not before {start}")
            if after < 0:
                after = at + 2
            start = at = target
            limit = len(message)
        elif kind:
            raise MessageError(f"the label at {at} has the type {kind >> 6}, which is none")
        elif size == 0:
            return tuple(labels), after if after >= 0 else at + 1
        else:
            total += size + 1
            if total > MAX_NAME_BYTES:
                raise MessageError(f"the name at {offset} has more than {MAX_NAME_BYTES} bytes")
            if at + 1 + size > limit:
                raise MessageError(f"the label at {at} ends beyond {limit}")
            labels.append(message[at + 1 : at + 1 + size])
            at += 1 + size


def parse_names(data: bytes) -> tuple[Name, ...]:
    """A list of names as in DHCP options (RFC 3397, RFC 3646).  Raises: MessageError."""
    names = []
    at = 0
    while at < len(data):
        name, at = parse_name(data, at)
        if name:
            names.append(name)
    return tuple(names)


def emit_name(name: Name, out: bytearray, seen: dict[Name, int] | None = None) -> None:
    """Append `name` to the message `out`; with `seen` (names and their offsets) compressed.

    Raises: MessageError.
    """
    checked(name)
    for i in range(len(name)):
        rest = name[i:]
        if seen is not None:
            at = seen.get(rest)
            if at is not None:
                out += (0xC000 | at).to_bytes(2, "big")
                return
            if len(out) <= MAX_POINTER:
                seen[rest] = len(out)
        out.append(len(name[i]))
        out += name[i]
    out.append(0)


def name_from_text(text: str) -> Name:
    """`www.example.com` or `www.example.com.` as a Name; letters beyond ASCII by IDNA.

    A backslash escapes the next character, or three digits for a byte.
    Raises: MessageError.
    """
    if text in ("", "."):
        return ()
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise MessageError(f"{text!r} is no domain name: {error}") from None
    labels: list[bytes] = []
    label = bytearray()
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == ".":
            labels.append(bytes(label))
            label.clear()
            continue
        if char == "\\":
            digits = text[at : at + 3]
            if len(digits) == 3 and digits.isdecimal() and int(digits) < 256:
                label.append(int(digits))
                at += 3
                continue
            if not text[at : at + 1] or digits[0].isdecimal():
                raise MessageError(
                    f"{text!r} is no domain name: a backslash with nothing to escape"
                )
            char = text[at]
            at += 1
        label.append(ord(char))
    if label or not text.endswith("."):
        labels.append(bytes(label))
    try:
        return checked(tuple(labels))
    except MessageError as error:
        raise MessageError(f"{text!r} is no domain name: {error}") from None


def name_to_text(name: Name) -> str:
    """The text of `name` without a dot at its end; the root is "."."""
    return ".".join(map(_label_to_text, name)) or "."


def _label_to_text(label: bytes) -> str:
    out = []
    for byte in label:
        char = chr(byte)
        if char in ".\\":
            out.append("\\" + char)
        elif 0x21 <= byte <= 0x7E:
            out.append(char)
        else:
            out.append(f"\\{byte:03}")
    return "".join(out)


def reverse_name(addr: int, bits: int) -> Name:
    """The name under in-addr.arpa (RFC 1035 3.5) or ip6.arpa (RFC 3596 2.5) of an address.

    `addr` is in host order, `bits` its width, 32 or 128.
    """
    if bits == 32:
        octets = tuple(b"%d" % (addr >> shift & 0xFF) for shift in range(0, 32, 8))
        return (*octets, b"in-addr", b"arpa")
    nibbles = tuple(b"%x" % (addr >> shift & 0xF) for shift in range(0, 128, 4))
    return (*nibbles, b"ip6", b"arpa")
