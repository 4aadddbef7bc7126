"""include/uapi/linux/icmp.h: types and codes of ICMP, and the errno of each unreachable code."""

from __future__ import annotations

from typing import NamedTuple

ICMP_ECHOREPLY = 0
ICMP_DEST_UNREACH = 3
ICMP_SOURCE_QUENCH = 4
ICMP_REDIRECT = 5
ICMP_ECHO = 8
ICMP_TIME_EXCEEDED = 11
ICMP_PARAMETERPROB = 12
ICMP_TIMESTAMP = 13
ICMP_TIMESTAMPREPLY = 14
ICMP_INFO_REQUEST = 15
ICMP_INFO_REPLY = 16
ICMP_ADDRESS = 17
ICMP_ADDRESSREPLY = 18
NR_ICMP_TYPES = 18
ICMP_EXT_ECHO = 42
ICMP_EXT_ECHOREPLY = 43

# codes of ICMP_DEST_UNREACH
ICMP_NET_UNREACH = 0
ICMP_HOST_UNREACH = 1
ICMP_PROT_UNREACH = 2
ICMP_PORT_UNREACH = 3
ICMP_FRAG_NEEDED = 4
ICMP_SR_FAILED = 5
ICMP_NET_UNKNOWN = 6
ICMP_HOST_UNKNOWN = 7
ICMP_HOST_ISOLATED = 8
ICMP_NET_ANO = 9
ICMP_HOST_ANO = 10
ICMP_NET_UNR_TOS = 11
ICMP_HOST_UNR_TOS = 12
ICMP_PKT_FILTERED = 13
ICMP_PREC_VIOLATION = 14
ICMP_PREC_CUTOFF = 15
NR_ICMP_UNREACH = 15
# codes of ICMP_REDIRECT
ICMP_REDIR_HOST = 1
# codes of ICMP_TIME_EXCEEDED
ICMP_EXC_TTL = 0
ICMP_EXC_FRAGTIME = 1


class icmp_err(NamedTuple):
    """The errno that an unreachable code gives a socket, and whether it ends a connection."""

    errno: int
    fatal: bool


# net/ipv4/icmp.c icmp_err_convert[], by code of ICMP_DEST_UNREACH (Linux's errno numbers)
icmp_err_convert = (
    icmp_err(101, False),  # ENETUNREACH  ICMP_NET_UNREACH
    icmp_err(113, False),  # EHOSTUNREACH ICMP_HOST_UNREACH
    icmp_err(92, True),  # ENOPROTOOPT  ICMP_PROT_UNREACH
    icmp_err(111, True),  # ECONNREFUSED ICMP_PORT_UNREACH
    icmp_err(90, False),  # EMSGSIZE     ICMP_FRAG_NEEDED
    icmp_err(95, False),  # EOPNOTSUPP   ICMP_SR_FAILED
    icmp_err(101, True),  # ENETUNREACH  ICMP_NET_UNKNOWN
    icmp_err(112, True),  # EHOSTDOWN    ICMP_HOST_UNKNOWN
    icmp_err(64, True),  # ENONET       ICMP_HOST_ISOLATED
    icmp_err(101, True),  # ENETUNREACH  ICMP_NET_ANO
    icmp_err(113, True),  # EHOSTUNREACH ICMP_HOST_ANO
    icmp_err(101, False),  # ENETUNREACH  ICMP_NET_UNR_TOS
    icmp_err(113, False),  # EHOSTUNREACH ICMP_HOST_UNR_TOS
    icmp_err(113, True),  # EHOSTUNREACH ICMP_PKT_FILTERED
    icmp_err(113, True),  # EHOSTUNREACH ICMP_PREC_VIOLATION
    icmp_err(113, True),  # EHOSTUNREACH ICMP_PREC_CUTOFF
)
