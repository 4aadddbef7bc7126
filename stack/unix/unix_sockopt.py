"""Options that AF_UNIX handles itself (in net/core/sock.c they are cases of one switch)."""

from __future__ import annotations

import errno
from typing import Any

from stack.core.bsd_socket import socket
from stack.core.errors import os_error


def unix_setsockopt(sock: socket, level: int, optname: int, optval: Any) -> None:
    """The family has no level of its own. Raises: OSError EOPNOTSUPP."""
    raise os_error(errno.EOPNOTSUPP, f"AF_UNIX has no options of level {level}")


def unix_getsockopt(sock: socket, level: int, optname: int, optlen: int) -> Any:
    """The family has no level of its own. Raises: OSError EOPNOTSUPP."""
    raise os_error(errno.EOPNOTSUPP, f"AF_UNIX has no options of level {level}")
