# cython: language_level=3, embedsignature=True
"""The address that socket calls take and give: one value for every family of IP, one for AF_UNIX.

A read makes one, so it is compiled. Families with other addresses have a subclass, which goes
wherever a `sockaddr` is wanted.
"""

from sys import byteorder

cimport cython

cdef enum:
    AF_UNIX = 1
    AF_INET = 2
    AF_INET6 = 10
    AF_NETLINK = 16
    AF_PACKET = 17


# It holds plain ints only, so it is in no cycle: reads without number do not start the collector.
@cython.no_gc
@cython.freelist(64)
cdef class sockaddr:
    """struct sockaddr_in and sockaddr_in6: family, address, port, flow information and scope.

    `addr` is a host-order int (32 bits for AF_INET, 128 for AF_INET6), `port` 0 … 65535,
    `flowinfo` traffic class and flow label as 32 host-order bits, `scope_id` an interface index.
    Of AF_NETLINK `addr` is nl_pid and `flowinfo` nl_groups.
    AF_UNSPEC (0) takes the peer of a connected socket away. Immutable; equal when all five are.
    `sa_len` is 0 for a whole address; else the bytes there were of it (see `sockaddr_from`).

    Raises ValueError when a number does not fit its family.
    """

    def __init__(self, family, addr, port=0, flowinfo=0, scope_id=0):
        cdef int bits
        bits = 128 if family == AF_INET6 else 32
        if not 0 <= family <= 0xFFFF:
            raise ValueError(f"sockaddr: family {family} is not 0 … 65535")
        if not isinstance(addr, int) or addr < 0 or addr >> bits:
            raise ValueError(f"sockaddr: {addr!r} is no address of {bits} bits")
        if not 0 <= port <= 0xFFFF:
            raise ValueError(f"sockaddr: port {port} is not 0 … 65535")
        if not 0 <= flowinfo <= 0xFFFFFFFFU:
            raise ValueError(f"sockaddr: flowinfo {flowinfo} has more than 32 bits")
        if not 0 <= scope_id <= 0xFFFFFFFFU:
            raise ValueError(f"sockaddr: scope_id {scope_id} has more than 32 bits")
        self.family = family
        self.addr = addr if type(addr) is int else int(addr)
        self.port = port
        self.flowinfo = flowinfo
        self.scope_id = scope_id

    def __eq__(self, other):
        cdef sockaddr o
        if self is other:
            return True
        if type(other) is not sockaddr:
            return NotImplemented
        o = <sockaddr>other
        return (self.port == o.port and self.family == o.family and self.scope_id == o.scope_id
                and self.flowinfo == o.flowinfo and self.addr == o.addr)

    def __hash__(self):
        cdef unsigned long long h = <unsigned long long>hash(self.addr)
        h ^= <unsigned long long>self.port << 40 ^ <unsigned long long>self.scope_id << 8
        h ^= <unsigned long long>self.family << 32 ^ self.flowinfo
        return <Py_ssize_t>(h * 0x9E3779B97F4A7C15ULL)

    def __reduce__(self):
        return sockaddr, (self.family, self.addr, self.port, self.flowinfo, self.scope_id)

    def __repr__(self):
        if self.flowinfo or self.scope_id:
            return (f"sockaddr({self.family}, {self.addr:#x}, {self.port}, {self.flowinfo:#x}, "
                    f"{self.scope_id})")
        return f"sockaddr({self.family}, {self.addr:#x}, {self.port})"


@cython.final
@cython.no_gc
cdef class sockaddr_ll(sockaddr):
    """struct sockaddr_ll (uapi/linux/if_packet.h): of AF_PACKET.

    `protocol` an EtherType in host order, `ifindex` 0 for any interface, `hatype` ARPHRD_*,
    `pkttype` PACKET_*, `lladdr` a hardware address of at most 8 bytes. Immutable; equal when all
    five are. Raises ValueError when a number does not fit.
    """

    def __init__(self, protocol, ifindex=0, hatype=0, pkttype=0, lladdr=b""):
        for name, value, most in (("protocol", protocol, 0xFFFF), ("ifindex", ifindex, 0xFFFFFFFFU),
                                  ("hatype", hatype, 0xFFFF), ("pkttype", pkttype, 0xFF)):
            if not 0 <= value <= most:
                raise ValueError(f"sockaddr_ll: {name} {value} is not 0 … {most}")
        lladdr = bytes(lladdr)
        if len(lladdr) > 8:
            raise ValueError(f"sockaddr_ll: a hardware address of {len(lladdr)} bytes; 8 at most")
        self.family = AF_PACKET
        self.addr = 0
        self.protocol = protocol
        self.ifindex = ifindex
        self.hatype = hatype
        self.pkttype = pkttype
        self.lladdr = lladdr

    def __eq__(self, other):
        cdef sockaddr_ll o
        if self is other:
            return True
        if type(other) is not sockaddr_ll:
            return NotImplemented
        o = <sockaddr_ll>other
        return (self.protocol == o.protocol and self.ifindex == o.ifindex
                and self.hatype == o.hatype and self.pkttype == o.pkttype
                and self.lladdr == o.lladdr)

    def __hash__(self):
        cdef unsigned long long h = <unsigned long long>hash(self.lladdr)
        h ^= <unsigned long long>self.protocol << 40 ^ <unsigned long long>self.ifindex << 8
        h ^= <unsigned long long>self.hatype << 20 ^ self.pkttype
        return <Py_ssize_t>(h * 0x9E3779B97F4A7C15ULL)

    def __reduce__(self):
        return sockaddr_ll, (self.protocol, self.ifindex, self.hatype, self.pkttype, self.lladdr)

    def __repr__(self):
        return (f"sockaddr_ll({self.protocol:#x}, {self.ifindex}, {self.hatype}, {self.pkttype}, "
                f"{self.lladdr!r})")


cpdef sockaddr_ll sockaddr_ll_make(long long protocol, long long ifindex, long long hatype,
                                   long long pkttype, bytes lladdr):
    """A sockaddr_ll of numbers that are known to fit; the caller raises ValueError for others."""
    cdef sockaddr_ll name = sockaddr_ll.__new__(sockaddr_ll)
    name.family = AF_PACKET
    name.addr = 0
    name.protocol = protocol
    name.ifindex = ifindex
    name.hatype = hatype
    name.pkttype = pkttype
    name.lladdr = lladdr
    return name


@cython.final
@cython.no_gc
cdef class sockaddr_un(sockaddr):
    """struct sockaddr_un: `path` is sun_path, as many bytes as the address's length says.

    b"" is an unnamed socket (bind to it chooses a name), a name that begins with NUL is abstract.
    Immutable; equal when the bytes are.
    """

    def __init__(self, path):
        self.family = AF_UNIX
        self.addr = 0
        self.path = bytes(path)

    def __eq__(self, other):
        if self is other:
            return True
        if type(other) is not sockaddr_un:
            return NotImplemented
        return self.path == (<sockaddr_un>other).path

    def __hash__(self):
        return hash(self.path)

    def __reduce__(self):
        return sockaddr_un, (self.path,)

    def __repr__(self):
        return f"sockaddr_un({self.path!r})"


cpdef sockaddr sockaddr_from(data):
    """The address in the bytes of a struct sockaddr, as move_addr_to_kernel (net/socket.c) has it.

    `data`: at most 128 bytes in the machine's layout; what is missing is 0, and `sa_len` says how
    many bytes there were, 1 for none. A family that is not known has its port and address where
    AF_INET has them. The hardware address of AF_PACKET has all 8 bytes, for Linux sends to what the
    device has of it whatever sll_halen says. Raises ValueError: more bytes.
    """
    cdef bytes raw = bytes(data)
    cdef Py_ssize_t n = len(raw)
    cdef sockaddr name
    if n > 128:
        raise ValueError(f"sockaddr_from: {n} bytes are no address; 128 at most")
    padded = raw.ljust(128, b"\0")
    cdef int family = int.from_bytes(padded[:2], byteorder)
    port = int.from_bytes(padded[2:4], "big")
    if family == AF_UNIX and n >= 2:
        name = sockaddr_un(raw[2:])
    elif family == AF_PACKET:
        name = sockaddr_ll(
            port, int.from_bytes(padded[4:8], byteorder), int.from_bytes(padded[8:10], byteorder),
            padded[10], padded[12:20])
    elif family == AF_INET6:
        name = sockaddr(family, int.from_bytes(padded[8:24], "big"), port,
                        int.from_bytes(padded[4:8], "big"),
                        int.from_bytes(padded[24:28], byteorder))
    elif family == AF_NETLINK:
        name = sockaddr(family, int.from_bytes(padded[4:8], byteorder), 0,
                        int.from_bytes(padded[8:12], byteorder))
    else:
        name = sockaddr(family, int.from_bytes(padded[4:8], "big"), port)
    name.sa_len = n if n else 1
    return name


cdef sockaddr sockaddr_make(unsigned short family, object addr, unsigned short port,
                            unsigned int flowinfo, unsigned int scope_id):
    """A sockaddr of numbers that are known to fit."""
    cdef sockaddr name = sockaddr.__new__(sockaddr)
    name.family = family
    name.addr = addr
    name.port = port
    name.flowinfo = flowinfo
    name.scope_id = scope_id
    return name
