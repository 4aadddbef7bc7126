"""struct ipv6_pinfo: the members of an AF_INET6 socket besides inet_sock's (linux/ipv6.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack.core.rows import FRESH, clone_state, row, state, wide
from stack.inet.inet_sock import inet_sock
from stack.inet.mc_filter import ip_mc_socklist
from stack.ipv6.txoptions import ipv6_txoptions

if TYPE_CHECKING:
    from stack.ipv6.ip6_flowlabel import ip6_flowlabel

# include/uapi/linux/in6.h
IPV6_PMTUDISC_DONT = 0
IPV6_PMTUDISC_WANT = 1
IPV6_PMTUDISC_DO = 2
IPV6_PMTUDISC_PROBE = 3
IPV6_PMTUDISC_INTERFACE = 4
IPV6_PMTUDISC_OMIT = 5


@state
class rxopt:
    """ipv6_pinfo.rxopt: the control messages that recvmsg returns."""

    srcrt: bool = False
    osrcrt: bool = False
    rxinfo: bool = False
    rxoinfo: bool = False
    rxhlim: bool = False
    rxohlim: bool = False
    hopopts: bool = False
    ohopopts: bool = False
    dstopts: bool = False
    odstopts: bool = False
    rxflow: bool = False
    rxtclass: bool = False
    rxpmtu: bool = False
    rxorigdstaddr: bool = False
    recvfragsize: bool = False


@state
class inet6_cork:
    """struct inet6_cork: the settings of the corked datagram."""

    opt: ipv6_txoptions | None = None
    hop_limit: int = -1
    tclass: int = 0
    dontfrag: bool = False


@state
class ipv6_pinfo:
    """struct ipv6_pinfo. Hop limits and traffic class: -1 leaves it to the route."""

    hop_limit: int = -1
    mcast_hops: int = 1
    tclass: int = 0
    ucast_oif: int = 0
    mcast_oif: int = 0
    sticky_ifindex: int = 0
    """The interface of an IPV6_PKTINFO that was set as an option."""
    flow_label: int = 0
    rcv_flowinfo: int = 0
    """Flow information of the peer's packets (TCP)."""
    frag_size: int = 0
    srcprefs: int = 0
    pmtudisc: int = IPV6_PMTUDISC_WANT
    mc_loop: bool = True
    mc_all: bool = True
    recverr: bool = False
    recverr_rfc4884: bool = False
    repflow: bool = False
    sndflow: bool = False
    autoflowlabel: bool = False
    autoflowlabel_set: bool = False
    dontfrag: bool = False
    rxopt: rxopt = row(make=rxopt, clone=clone_state)
    opt: ipv6_txoptions | None = None
    """Extension headers that every packet of the socket carries."""
    ipv6_mc_list: list[ip_mc_socklist] = row(make=list, clone=FRESH)
    ipv6_ac_list: list[tuple[wide, int]] = row(make=list, clone=FRESH)
    """Anycast addresses that the socket joined: (address, ifindex)."""
    ipv6_fl_list: list[ip6_flowlabel] = row(make=list, clone=FRESH)
    """Flow labels that the socket leases."""
    rx_pmtu: tuple[wide, int, int] | None = row(None, clone=FRESH)
    """The last path MTU for IPV6_RECVPATHMTU: (address, scope id, mtu)."""
    cork: inet6_cork = row(make=inet6_cork, clone=FRESH)

    def clone(self) -> ipv6_pinfo:
        """A copy for an accepted connection: the settings, without groups and flow labels."""
        return clone_state(self)


def inet6_sk(sk: inet_sock | None) -> ipv6_pinfo | None:
    """include/linux/ipv6.h: None for a socket of another family (and for none)."""
    return sk.pinet6 if sk is not None else None


def np_of(sk: inet_sock) -> ipv6_pinfo:
    """inet6_sk() of an AF_INET6 socket, never None."""
    np = sk.pinet6
    assert np is not None
    return np
