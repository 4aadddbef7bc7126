"""The input of a module's machine code: its C text without positions of other declarations.

A new field of a `@state` class moves the lines of `_state.pxd` below it. Cython writes these places
into the C of every module that cimports it, as comments and as positions of errors at import. For
a build only the rest counts, such as the structures that the module uses.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

_QUOTED = re.compile(rb'^/\* "[^"\n]*\.pxd":\d+\n.*?\*/', re.DOTALL | re.MULTILINE)
_FILES = re.compile(rb"__pyx_f\[\] = \{\n(.*?)\};", re.DOTALL)
_PLACE = re.compile(rb"__PYX_ERR\((\d+), \d+,")


def without_places(text: bytes) -> bytes:
    """The C text without positions of declarations in a .pxd."""
    files = _FILES.search(text)
    names = files[1].split(b",\n") if files else []

    def place(found: re.Match[bytes]) -> bytes:
        number = int(found[1])
        declared = number < len(names) and names[number].rstrip().endswith(b'.pxd"')
        return b"__PYX_ERR(%d, 0," % number if declared else found[0]

    return _PLACE.sub(place, _QUOTED.sub(b"", text))


def fingerprint(texts: Iterable[Path], options: object) -> str:
    """A hash of C texts and headers, and of the compiler's `options`."""
    found = hashlib.sha256(repr(options).encode())
    for path in texts:
        found.update(without_places(path.read_bytes()))
    return found.hexdigest()
