"""The keys by which a packet's socket is looked up, for both families.

A key is ``(family, saddr, sport, daddr, dport)`` from the packet: the family of the wire (2
AF_INET, 10 AF_INET6), addresses and ports as host-order ints (32 or 128 bits, 16 bits). The hash
tables of the stack hold sockets under the key of the packets that they receive. The family comes
from the version in the header at ``network_header``. `InetEnds` is the same for callers that only
compares: no ints are made of the addresses.

The sender of a packet as the application sees it (`udp_name`, `inet_name`) is made here too, and
the hash of two ends that nobody can guess (`inet_siphash`).
"""

from typing import final

from fastpath.base.skbuff import sk_buff
from fastpath.net.sockaddr import sockaddr
from fastpath.wide import wide

AF_INET: int
AF_INET6: int

@final
class InetEnds:
    """The ends of a packet, to be compared with a socket's. Made by the functions below."""

    @property
    def family(self) -> int: ...
    @property
    def sport(self) -> int: ...
    @property
    def dport(self) -> int: ...
    def is_from(self, addr: wide) -> bool:
        """Whether `addr` is the source address."""

    def is_to(self, addr: wide) -> bool:
        """Whether `addr` is the destination address."""

    def key(self) -> tuple[int, int, int, int, int]:
        """What inet_key says."""

def inet_key(skb: sk_buff) -> tuple[int, int, int, int, int]:
    """The key from network_header and transport_header; the ports are the first four bytes there.

    Raises IndexError when a header is not linear, ValueError when it is not of version 4 or 6.
    """

def inet_skb_ends(skb: sk_buff) -> InetEnds:
    """The ends that inet_key says. Raises as it does."""

def inet_err_key(skb: sk_buff, net: int, l4: int) -> tuple[int, int, int, int, int]:
    """The key of the socket that sent the packet an ICMP error carries.

    `net` and `l4` are the offsets of its headers from data. Source and destination change places,
    for the tables hold sockets under the key of what they receive. Raises as inet_key.
    """

def inet_err_ends(skb: sk_buff, net: int, l4: int) -> InetEnds:
    """The ends that inet_err_key says. Raises as it does."""

def icmp_echo_key(skb: sk_buff) -> tuple[int, int, int, int, int]:
    """The key of an ICMP or ICMPv6 echo message: its identifier is the destination port.

    The source port is 0: a ping socket has no port at the other side. Raises as inet_key.
    """

def udp_rcv_usual(skb: sk_buff) -> bool:
    """Whether a datagram is a usual one.

    Usual: data at the UDP header, its length all there is, the checksum verified; over IPv6 also
    that there is a checksum and that it is not for a group. Merged ones are usual too.
    """

def udp_rcv_ends(skb: sk_buff) -> InetEnds | None:
    """The ends of a usual datagram (udp_rcv_usual), None for any other."""

def inet_name(skb: sk_buff, family: int, port: int = 0) -> sockaddr:
    """The sender of a packet as a `sockaddr`, for a socket of `family` (2 or 10).

    To an AF_INET6 socket an IPv4 sender is the v4-mapped address. The scope of a link-local address
    is the interface it came in by (skb_iif). Raises IndexError without a network header, ValueError
    when that is neither of IPv4 nor, for an AF_INET6 socket, of IPv6.
    """

def udp_name(skb: sk_buff, family: int) -> sockaddr:
    """`inet_name` with the source port of a datagram whose headers are still before its data."""

def udp_name_consume(skb: sk_buff, family: int, seen: sockaddr | None) -> sockaddr:
    """`udp_name`, then give the reader's reference back (consume_skb).

    `seen` is such a name, or None: that object comes back when the sender is the same.
    """

def siphash(secret: bytes, data: bytes) -> int:
    """SipHash-2-4 of `data`, 64 bits, under a secret of 16 bytes.  Raises: ValueError, its size."""

def inet_siphash(secret: bytes, saddr: wide, daddr: wide, ports: int, more: int = 0) -> int:
    """The low 32 bits of SipHash-2-4 of two ends, as include/linux/siphash.h is used for them.

    Hashed are 40 bytes, big-endian: two addresses of 128 bits, a low one being IPv4's, the ports
    and `more`, 32 bits each.  Raises as siphash.
    """
