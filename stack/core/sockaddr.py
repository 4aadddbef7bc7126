"""The address that socket calls take and give (include/linux/socket.h, uapi/linux/in6.h).

Every layer below the applications passes addresses as this one value, whatever the family.
"""

from __future__ import annotations

from fastpath.sockaddr import sockaddr, sockaddr_ll, sockaddr_un

__all__ = ["sockaddr", "sockaddr_ll", "sockaddr_un"]
