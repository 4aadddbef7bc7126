"""drivers/net/tun.c: ioctl(2) of an open file of /dev/net/tun.

    TUNSETIFF       tun_chr_set_iff: attach a new interface, or one that is not open
    others          a function each in `REQUESTS`. Before TUNSETIFF they give EBADFD

An argument is a number, or memory (see stack.core.ioctl) of `tun_arg_bytes` bytes.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import Any

from stack.core import uapi
from stack.core.dev import dev_valid_name
from stack.core.dev_ioctl import IFREQ_BYTES, SIOCGIFHWADDR, SIOCSIFHWADDR, dev_ioctl, ifr_name
from stack.core.dev_notifier import netdev_state_change
from stack.core.errors import os_error
from stack.core.file import struct_file
from stack.core.memory import copy_from_user, copy_to_user, get_user_int, put_user_int
from stack.core.netdevice import (
    ARPHRD_ETHER,
    ARPHRD_IP6GRE,
    ARPHRD_IPGRE,
    ARPHRD_SIT,
    ARPHRD_TUNNEL,
    ARPHRD_TUNNEL6,
    ETH_ALEN,
    IFF_UP,
    IFNAMSIZ,
    net_device,
)
from stack.core.rtnetlink import eth_hw_addr_init, rtnl_create_link, rtnl_register_link
from stack.core.sock import ns_capable
from stack.core.uapi import POLLOUT, POLLWRNORM
from stack.core.wait import wake_up_poll
from stack.drivers.tun import (
    IFF_MULTI_QUEUE,
    IFF_NAPI,
    IFF_NAPI_FRAGS,
    IFF_NO_CARRIER,
    IFF_NOFILTER,
    IFF_PERSIST,
    IFF_TAP,
    IFF_TUN,
    IFF_TUN_EXCL,
    INVALID_ID,
    TUN_FEATURES,
    TUN_TYPE_MASK,
    VIRTIO_NET_HDR_BYTES,
    tap_netdev_ops,
    tap_setup,
    tun_file,
    tun_filter,
    tun_flags,
    tun_link_ops,
    tun_net_change_carrier,
    tun_netdev_ops,
    tun_setup,
    tun_struct,
)

# include/uapi/linux/if_tun.h
TUNSETNOCSUM = 0x400454C8
TUNSETDEBUG = 0x400454C9
TUNSETIFF = 0x400454CA
TUNSETPERSIST = 0x400454CB
TUNSETOWNER = 0x400454CC
TUNSETLINK = 0x400454CD
TUNSETGROUP = 0x400454CE
TUNGETFEATURES = 0x800454CF
TUNSETOFFLOAD = 0x400454D0
TUNSETTXFILTER = 0x400454D1
TUNGETIFF = 0x800454D2
TUNGETSNDBUF = 0x800454D3
TUNSETSNDBUF = 0x400454D4
TUNGETVNETHDRSZ = 0x800454D7
TUNSETVNETHDRSZ = 0x400454D8
TUNSETQUEUE = 0x400454D9
TUNSETIFINDEX = 0x400454DA
TUNSETVNETLE = 0x400454DC
TUNGETVNETLE = 0x800454DD
TUNSETCARRIER = 0x400454E2

TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_UFO = 0x01, 0x02, 0x04, 0x08, 0x10
TUN_F_USO = 0x60
"""TUN_F_USO4 and TUN_F_USO6."""
TUN_FILTER = struct.Struct("=HH")
TUN_FLT_ALLMULTI = 0x0001
FLT_EXACT_COUNT = 8
IFR_FLAGS = struct.Struct("=H")
ADDR_LEN = {
    ARPHRD_ETHER: ETH_ALEN,
    **dict.fromkeys((ARPHRD_TUNNEL, ARPHRD_SIT, ARPHRD_IPGRE), 4),
    **dict.fromkeys((ARPHRD_TUNNEL6, ARPHRD_IP6GRE), 16),
}
"""tun_get_addr_len: address length of some link types."""

IN_MEMORY = {
    **dict.fromkeys((TUNSETIFF, TUNGETIFF, TUNSETQUEUE, SIOCGIFHWADDR, SIOCSIFHWADDR), IFREQ_BYTES),
    **dict.fromkeys((TUNGETFEATURES, TUNGETSNDBUF, TUNSETSNDBUF, TUNGETVNETHDRSZ), 4),
    **dict.fromkeys((TUNSETVNETHDRSZ, TUNSETIFINDEX, TUNSETVNETLE, TUNGETVNETLE), 4),
    TUNSETCARRIER: 4,
    TUNSETTXFILTER: TUN_FILTER.size,
}
"""Size of the memory that the argument points to. Other arguments are numbers."""


def tun_arg_bytes(cmd: int, head: bytes = b"") -> int:
    """Size of an argument's memory; 0: it is a number. `head` is its beginning, if read."""
    if cmd == TUNSETTXFILTER and len(head) >= TUN_FILTER.size:
        return TUN_FILTER.size + int(TUN_FILTER.unpack_from(head)[1]) * ETH_ALEN
    return int(IN_MEMORY.get(cmd, 0))


def tun_chr_ioctl(file: struct_file, cmd: int, arg: Any) -> int:
    """drivers/net/tun.c __tun_chr_ioctl: 0, or a result without an output argument.

    Raises: OSError EBADFD, EEXIST, EINVAL, EPERM ...
    """
    tfile: tun_file = file.private_data
    if cmd == TUNGETFEATURES:
        return put_user_int(IFF_TUN | IFF_TAP | IFF_NO_CARRIER | TUN_FEATURES, arg)
    tun = tfile.tun
    if cmd == TUNSETIFF:
        if tun is not None:
            raise os_error(errno.EEXIST, f"the file has {tun.dev.name} already")
        ifr = copy_from_user(arg, IFREQ_BYTES)
        dev = tun_chr_set_iff(tfile, ifr_name(ifr), IFR_FLAGS.unpack_from(ifr, IFNAMSIZ)[0])
        ifr[:IFNAMSIZ] = os.fsencode(dev.name).ljust(IFNAMSIZ, b"\0")
        copy_to_user(arg, ifr)
        return 0
    if cmd == TUNSETIFINDEX:
        if tun is not None:
            raise os_error(errno.EPERM, f"{tun.dev.name} has its number already")
        index = get_user_int(arg)
        if index < 0:
            raise os_error(errno.EINVAL, f"no interface has the number {index}")
        tfile.ifindex = index
        return 0
    if tun is None and cmd != TUNSETQUEUE:
        raise os_error(errno.EBADFD, "TUNSETIFF has not given this file an interface")
    request = REQUESTS.get(cmd)
    if request is None or tun is None:
        raise os_error(errno.EINVAL, f"{cmd:#x} is no request for a tun")
    return int(request(tun, arg) or 0)


# --- TUNSETIFF ------------------------------------------------------------------------------------


def tun_chr_set_iff(tfile: tun_file, name: bytes, flags: int) -> net_device:
    """drivers/net/tun.c tun_set_iff: attach an interface to the file.

    Raises: OSError EINVAL, EPERM; EBUSY: another file uses it, or IFF_TUN_EXCL and it exists.
    """
    net = tfile.net
    if flags & IFF_NAPI_FRAGS and (not flags & IFF_NAPI or flags & TUN_TYPE_MASK != IFF_TAP):
        raise os_error(errno.EINVAL, "IFF_NAPI_FRAGS is for a TAP with IFF_NAPI")
    if flags & IFF_MULTI_QUEUE:
        raise os_error(errno.EINVAL, "IFF_MULTI_QUEUE is not offered; one queue is")
    dev = net.dev_by_name.get(os.fsdecode(name)) if name else None
    if dev is not None:
        tun = tun_reopen(dev, flags)
        tun.flags = tun.flags & ~TUN_FEATURES | flags & TUN_FEATURES
        tun_attach(tun, tfile)
        netdev_state_change(dev)
    else:
        dev = tun_create(tfile, name, flags)
        tun_attach(dev.priv, tfile)
    tun_net_change_carrier(dev, not flags & IFF_NO_CARRIER)
    return dev


def tun_reopen(dev: net_device, flags: int) -> tun_struct:
    """The part of tun_set_iff for an existing interface. Raises: OSError."""
    if flags & IFF_TUN_EXCL:
        raise os_error(errno.EBUSY, f"{dev.name} is there already")
    ops = tun_netdev_ops if flags & IFF_TUN else tap_netdev_ops if flags & IFF_TAP else None
    if dev.netdev_ops is not ops:
        raise os_error(errno.EINVAL, f"{dev.name} is of another kind")
    tun: tun_struct = dev.priv
    if tun_not_capable(tun):
        raise os_error(errno.EPERM, f"{dev.name} is another user's")
    if tun.tfile is not None or tun.link is not None:
        raise os_error(errno.EBUSY, f"{dev.name} is open already")
    return tun


def tun_not_capable(tun: tun_struct) -> bool:
    """drivers/net/tun.c: whether the host's user, who is in one group, lacks access."""
    net = tun.dev.net
    others = tun.owner not in (INVALID_ID, net.uid) or tun.group not in (INVALID_ID, net.gid)
    return others and not ns_capable(net, uapi.CAP_NET_ADMIN)


def tun_create(tfile: tun_file, name: bytes, flags: int) -> net_device:
    """The part of tun_set_iff for a new interface. Raises: OSError EPERM, EINVAL, EEXIST."""
    net = tfile.net
    if not ns_capable(net, uapi.CAP_NET_ADMIN):
        raise os_error(errno.EPERM, "only root may make interfaces")
    if not flags & TUN_TYPE_MASK:
        raise os_error(errno.EINVAL, "neither IFF_TUN nor IFF_TAP")
    kind, setup = (IFF_TUN, tun_setup) if flags & IFF_TUN else (IFF_TAP, tap_setup)
    text = os.fsdecode(name) or ("tun%d" if kind == IFF_TUN else "tap%d")
    if not dev_valid_name(text):
        raise os_error(errno.EINVAL, f"{text!r} is no name of an interface")
    if tfile.ifindex in net.dev_by_index:
        raise os_error(errno.EBUSY, f"the number {tfile.ifindex} is taken")

    def private(dev: net_device) -> tun_struct:
        return tun_struct(dev, kind | flags & TUN_FEATURES)

    dev = rtnl_create_link(net, text, tun_link_ops, setup, private)
    dev.ifindex = tfile.ifindex
    if kind == IFF_TAP:
        eth_hw_addr_init(dev, None)
    rtnl_register_link(dev)
    return dev


def tun_attach(tun: tun_struct, tfile: tun_file) -> None:
    """drivers/net/tun.c: attach the file to the interface."""
    tun.tfile = tfile
    tfile.tun = tun
    tfile.tx_ring.clear()
    wake_up_poll(tfile.wq, POLLOUT | POLLWRNORM)


# --- the other requests ---------------------------------------------------------------------------


def tun_get_iff(tun: tun_struct, arg: Any) -> None:
    """drivers/net/tun.c: TUNGETIFF. No filter can be attached, so IFF_NOFILTER is always set."""
    ifr = copy_from_user(arg, IFREQ_BYTES)
    ifr[:IFNAMSIZ] = os.fsencode(tun.dev.name).ljust(IFNAMSIZ, b"\0")
    IFR_FLAGS.pack_into(ifr, IFNAMSIZ, tun_flags(tun) | IFF_NOFILTER)
    copy_to_user(arg, ifr)


def nothing(tun: tun_struct, arg: Any) -> None:
    """TUNSETNOCSUM, TUNSETDEBUG: no effect, as on Linux."""


def set_persist(tun: tun_struct, arg: Any) -> None:
    """TUNSETPERSIST: the interface stays when the file is closed."""
    tun.flags = tun.flags | IFF_PERSIST if number_of(arg) else tun.flags & ~IFF_PERSIST
    netdev_state_change(tun.dev)


def number_of(arg: Any) -> int:
    """An argument that is a number. None is 0."""
    return 0 if arg is None else get_user_int(arg)


def id_of(arg: Any) -> int:
    """make_kuid, make_kgid. Raises: OSError EINVAL."""
    number = number_of(arg) & 0xFFFFFFFF
    if number == 0xFFFFFFFF:
        raise os_error(errno.EINVAL, "no user has that number")
    return number


def set_owner(tun: tun_struct, arg: Any) -> None:
    """TUNSETOWNER: a user who may also open it."""
    tun.owner = id_of(arg)
    netdev_state_change(tun.dev)


def set_group(tun: tun_struct, arg: Any) -> None:
    """TUNSETGROUP: a group that may also open it."""
    tun.group = id_of(arg)
    netdev_state_change(tun.dev)


def set_link(tun: tun_struct, arg: Any) -> None:
    """TUNSETLINK: the link type, ARPHRD_*. Raises: OSError EBUSY."""
    if tun.dev.flags & IFF_UP:
        raise os_error(errno.EBUSY, f"{tun.dev.name} is up")
    dev = tun.dev
    dev.type = number_of(arg) & 0xFFFF
    dev.addr_len = ADDR_LEN.get(dev.type, 0)


def set_offload(tun: tun_struct, arg: Any) -> None:
    """drivers/net/tun.c: the offloads that the program accepts. Raises: OSError EINVAL.

    They are not used: each packet has its checksums and is one segment.
    """
    left = asked = number_of(arg)
    if left & TUN_F_CSUM:
        left &= ~(TUN_F_CSUM | TUN_F_UFO)
        if left & (TUN_F_TSO4 | TUN_F_TSO6):
            left &= ~(TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
        if left & TUN_F_USO == TUN_F_USO:
            left &= ~TUN_F_USO
    if left:
        raise os_error(errno.EINVAL, f"offloads {asked:#x}")


def update_filter(tun: tun_struct, arg: Any) -> None:
    """drivers/net/tun.c: TUNSETTXFILTER of a TAP. Raises: OSError EINVAL.

    After the first eight only groups are allowed; any other address disables the filter.
    """
    if not tun.flags & IFF_TAP:
        raise os_error(errno.EINVAL, "only a TAP has addresses to filter")
    flags, count = TUN_FILTER.unpack(copy_from_user(arg, TUN_FILTER.size))
    size = tun_arg_bytes(TUNSETTXFILTER, TUN_FILTER.pack(flags, count))
    data = bytes(copy_from_user(arg, size)[TUN_FILTER.size :])
    addrs = [data[at : at + ETH_ALEN] for at in range(0, len(data), ETH_ALEN)]
    tun.txflt = None
    if addrs and all(addr[0] & 1 for addr in addrs[FLT_EXACT_COUNT:]):
        tun.txflt = tun_filter(set(addrs), bool(flags & TUN_FLT_ALLMULTI))


def get_sndbuf(tun: tun_struct, arg: Any) -> int:
    """TUNGETSNDBUF."""
    return put_user_int(tun.sndbuf, arg)


def set_sndbuf(tun: tun_struct, arg: Any) -> None:
    """TUNSETSNDBUF. Raises: OSError EINVAL."""
    size = get_user_int(arg)
    if size <= 0:
        raise os_error(errno.EINVAL, f"a buffer of {size} bytes")
    tun.sndbuf = size


def get_vnet_hdr_sz(tun: tun_struct, arg: Any) -> int:
    """TUNGETVNETHDRSZ."""
    return put_user_int(tun.vnet_hdr_sz, arg)


def set_vnet_hdr_sz(tun: tun_struct, arg: Any) -> None:
    """TUNSETVNETHDRSZ. Raises: OSError EINVAL."""
    size = get_user_int(arg)
    if size < VIRTIO_NET_HDR_BYTES:
        raise os_error(errno.EINVAL, f"struct virtio_net_hdr has more than {size} bytes")
    tun.vnet_hdr_sz = size


def get_vnet_le(tun: tun_struct, arg: Any) -> int:
    """TUNGETVNETLE."""
    return put_user_int(int(tun.vnet_le), arg)


def set_vnet_le(tun: tun_struct, arg: Any) -> None:
    """TUNSETVNETLE."""
    tun.vnet_le = bool(get_user_int(arg))


def set_carrier(tun: tun_struct, arg: Any) -> None:
    """TUNSETCARRIER."""
    tun_net_change_carrier(tun.dev, get_user_int(arg) != 0)


def hwaddr(cmd: int) -> Callable[[tun_struct, Any], None]:
    """SIOCGIFHWADDR and SIOCSIFHWADDR of the file: of its interface; the given name is ignored."""

    def request(tun: tun_struct, arg: Any) -> None:
        ifr = copy_from_user(arg, IFREQ_BYTES)
        name = bytes(ifr[:IFNAMSIZ])
        ifr[:IFNAMSIZ] = os.fsencode(tun.dev.name).ljust(IFNAMSIZ, b"\0")
        dev_ioctl(tun.dev.net, cmd, ifr)
        ifr[:IFNAMSIZ] = name
        copy_to_user(arg, ifr)

    return request


REQUESTS: dict[int, Callable[[tun_struct, Any], int | None]] = {
    TUNGETIFF: tun_get_iff,
    TUNSETNOCSUM: nothing,
    TUNSETDEBUG: nothing,
    TUNSETPERSIST: set_persist,
    TUNSETOWNER: set_owner,
    TUNSETGROUP: set_group,
    TUNSETLINK: set_link,
    TUNSETOFFLOAD: set_offload,
    TUNSETTXFILTER: update_filter,
    TUNGETSNDBUF: get_sndbuf,
    TUNSETSNDBUF: set_sndbuf,
    TUNGETVNETHDRSZ: get_vnet_hdr_sz,
    TUNSETVNETHDRSZ: set_vnet_hdr_sz,
    TUNGETVNETLE: get_vnet_le,
    TUNSETVNETLE: set_vnet_le,
    TUNSETCARRIER: set_carrier,
    SIOCGIFHWADDR: hwaddr(SIOCGIFHWADDR),
    SIOCSIFHWADDR: hwaddr(SIOCSIFHWADDR),
}
