"""net/ethtool/netlink.c: the ethtool family of NETLINK_GENERIC: the requests of `ethtool`.

    ethnl_default_doit          REQUESTS: one interface       ethnl_get.py
    ethnl_default_dumpit        all interfaces
    ethnl_default_set_doit      a change                      ethnl_set.py
    ethnl_set_features          the change that has an answer
    ethtool_notify              notify the group "monitor" of changes

Each request begins with a header that names the interface and the format of bit sets. A
row of REQUESTS is a pair of messages, GET and SET, with the functions that answer them. State:
none. Read REQUESTS first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.netdevice import NETDEV_FEAT_CHANGE, net_device, netif_device_present
from stack.net import Net
from stack.netlink import ethnl_attrs as attrs
from stack.netlink import ethnl_get as get
from stack.netlink import ethnl_set as put
from stack.netlink.ethnl_get import Told, Wanted
from stack.netlink.genetlink import (
    UNS_ADMIN,
    genl_family,
    genl_has_listeners,
    genl_op,
    genl_register_family,
    genlmsg_multicast,
    genlmsg_part,
    genlmsg_reply,
)
from stack.netlink.netlink_sock import NETLINK_GENERIC, nlmsg
from stack.netlink.nlattr import Attrs, AttrTable, NlError

ETHTOOL_ID = 21
MONITOR = 6
VERSION = 1

Get = Callable[[net_device, Wanted], Told]
Set = Callable[[nlmsg, net_device, Attrs], None]


@dataclass(frozen=True, slots=True)
class ethnl_request:
    """struct ethnl_request_ops: a setting, its messages and functions.

    `cmd` and `reply` are the numbers of GET and its answer, `set_cmd` and `notify` those of SET and
    the notification; 0: there is none. `policy` is the table of GET's attributes, `table` that of
    the answer and of SET. `admin`: reading needs privileges.
    """

    name: str
    cmd: int
    reply: int
    get: Get
    table: AttrTable
    set_cmd: int = 0
    notify: int = 0
    set: Set | None = None
    policy: AttrTable = attrs.ONLY_HEADER
    admin: bool = False
    check: Callable[[Wanted], object] | None = None
    """Checks a dump's attributes before it begins."""


# --- headers ------------------------------------------------------------------------------------


def ethnl_parse_header_dev_get(
    nlh: nlmsg, tb: Attrs, need_dev: bool, number: int = 1
) -> tuple[net_device | None, int]:
    """net/ethtool/netlink.c: the interface that a header names, and its flags.

    `number` is that of the header. Raises: NlError EINVAL: no header, no interface; ENODEV.
    """
    net = nlh.sk.net
    if "HEADER" not in tb:
        if need_dev:
            raise NlError(errno.EINVAL, missing=number)
        return None, 0
    header: Attrs = tb["HEADER"]
    flags = header.get("ETHTOOL_A_HEADER_FLAGS", 0)
    index = header.get("ETHTOOL_A_HEADER_DEV_INDEX")
    name = header.get("ETHTOOL_A_HEADER_DEV_NAME")
    dev: net_device | None = None
    if index is not None:
        dev = net.dev_by_index.get(index)
        if dev is None:
            text = "no device matches ifindex"
            raise header.wrong("ETHTOOL_A_HEADER_DEV_INDEX", text, errno.ENODEV)
        if name is not None and name != dev.name:
            raise tb.wrong("HEADER", "ifindex and name do not match", errno.ENODEV)
    elif name is not None:
        dev = net.dev_by_name.get(name)
        if dev is None:
            raise header.wrong("ETHTOOL_A_HEADER_DEV_NAME", "no device matches name", errno.ENODEV)
    elif need_dev:
        raise tb.wrong("HEADER", "neither ifindex nor name specified")
    return dev, flags


def need_present(dev: net_device) -> None:
    """net/ethtool/netlink.c ethnl_ops_begin. Raises: NlError ENODEV: it was detached."""
    if not netif_device_present(dev):
        raise NlError(errno.ENODEV)


def answer(request: ethnl_request, dev: net_device | None, told: Told) -> bytes:
    """The attributes of an answer, with the header that names the interface."""
    out = bytearray()
    if dev is not None:
        name = {"ETHTOOL_A_HEADER_DEV_INDEX": dev.ifindex, "ETHTOOL_A_HEADER_DEV_NAME": dev.name}
        request.table.put(out, "HEADER", name)
    for key, value in told.items():
        for one in value if isinstance(value, list) else (value,):
            request.table.put(out, key, one)
    return bytes(out)


def called(dev: net_device, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the driver. Raises: NlError, with a text only where Linux has one."""
    need_present(dev)
    try:
        return function(*args)
    except NlError:
        raise
    except OSError as error:
        raise NlError(error.errno or errno.EIO) from error


# --- requests -----------------------------------------------------------------------------------


def wanted(flags: int, nlh: nlmsg | None = None, tb: Attrs | None = None) -> Wanted:
    """The options in a header's flags."""
    compact = bool(flags & attrs.ETHTOOL_FLAG_COMPACT_BITSETS)
    return Wanted(compact, bool(flags & attrs.ETHTOOL_FLAG_STATS), tb, nlh)


def ethnl_default_doit(request: ethnl_request, nlh: nlmsg, tb: Attrs) -> None:
    """net/ethtool/netlink.c: GET of one interface."""
    number = request.policy.by_name["HEADER"].number
    dev, flags = ethnl_parse_header_dev_get(nlh, tb, True, number)
    assert dev is not None
    told = called(dev, request.get, dev, wanted(flags, nlh, tb))
    genlmsg_reply(nlh, ethtool_family, request.reply, answer(request, dev, told))


def ethnl_default_dumpit(request: ethnl_request, nlh: nlmsg, tb: Attrs) -> Iterator[bytes]:
    """net/ethtool/netlink.c: GET of all interfaces; an interface in the header is only checked."""
    _, flags = ethnl_parse_header_dev_get(nlh, tb, False)
    want = wanted(flags, nlh, tb)
    if request.check is not None:
        request.check(want)
    return dump(request, nlh, want)


def dump(request: ethnl_request, nlh: nlmsg, want: Wanted) -> Iterator[bytes]:
    """The messages of a dump, without interfaces that do not offer the setting."""
    for dev in tuple(nlh.sk.net.dev_base_head):
        try:
            told = called(dev, request.get, dev, want)
        except NlError as error:
            if error.errno == errno.EOPNOTSUPP:
                continue
            raise
        yield genlmsg_part(nlh, ethtool_family, request.reply, answer(request, dev, told))


def ethnl_default_set_doit(request: ethnl_request, nlh: nlmsg, tb: Attrs) -> None:
    """net/ethtool/netlink.c: SET of one interface."""
    dev, _ = ethnl_parse_header_dev_get(nlh, tb, True)
    assert dev is not None
    assert request.set is not None
    called(dev, request.set, nlh, dev, tb)


def ethnl_set_features(nlh: nlmsg, tb: Attrs) -> None:
    """net/ethtool/features.c: FEATURES_SET, which sends a reply."""
    if "WANTED" not in tb:
        raise NlError(errno.EINVAL)
    if "HEADER" not in tb:
        raise NlError(errno.EINVAL, "request header missing")
    dev, flags = ethnl_parse_header_dev_get(nlh, tb, True)
    assert dev is not None
    need_present(dev)
    told = put.set_features(dev, nlh, tb, bool(flags & attrs.ETHTOOL_FLAG_COMPACT_BITSETS))
    if not flags & attrs.ETHTOOL_FLAG_OMIT_REPLY:
        out = answer(FEATURES, dev, told)
        genlmsg_reply(nlh, ethtool_family, ETHTOOL_MSG_FEATURES_SET_REPLY, out)


def ethnl_strset_doit(nlh: nlmsg, tb: Attrs) -> None:
    """net/ethtool/strset.c: STRSET_GET, of an interface or of none."""
    if "HEADER" not in tb:
        raise NlError(errno.EINVAL, missing=1)
    dev, flags = ethnl_parse_header_dev_get(nlh, tb, False)
    told = get.strset(dev, wanted(flags, nlh, tb))
    genlmsg_reply(nlh, ethtool_family, STRSET.reply, answer(STRSET, dev, told))


# --- the rows -----------------------------------------------------------------------------------

ETHTOOL_MSG_FEATURES_SET_REPLY = 12
FEATURES = ethnl_request("features", 11, 11, get.features, attrs.FEATURES, 12, 13)
STRSET = ethnl_request("strset", 1, 1, get.strset, attrs.STRSET, policy=attrs.STRSET)
# fmt: off
REQUESTS: tuple[ethnl_request, ...] = (
    STRSET,
    ethnl_request("linkinfo", 2, 2, get.linkinfo, attrs.LINKINFO, 3, 3, put.set_linkinfo),
    ethnl_request("linkmodes", 4, 4, get.linkmodes, attrs.LINKMODES, 5, 5, put.set_linkmodes),
    ethnl_request("linkstate", 6, 6, get.linkstate, attrs.LINKSTATE,
        policy=attrs.ONLY_HEADER_STATS),
    ethnl_request("debug", 7, 7, get.debug, attrs.DEBUG, 8, 8, put.set_debug),
    ethnl_request("wol", 9, 9, get.wol, attrs.WOL, 10, 10, put.set_wol, admin=True),
    FEATURES,
    ethnl_request("privflags", 13, 14, get.unsupported, attrs.PRIVFLAGS, 14, 15,
        put.set_privflags),
    ethnl_request("rings", 15, 16, get.rings, attrs.RINGS, 16, 17, put.set_rings),
    ethnl_request("channels", 17, 18, get.unsupported, attrs.CHANNELS, 18, 19,
        put.set_unsupported),
    ethnl_request("coalesce", 19, 20, get.coalesce, attrs.COALESCE, 20, 21, put.set_coalesce),
    ethnl_request("pause", 21, 22, get.pause, attrs.PAUSE, 22, 23, put.set_pause,
        policy=attrs.PAUSE_GET),
    ethnl_request("eee", 23, 24, get.unsupported, attrs.EEE, 24, 25, put.set_unsupported),
    ethnl_request("tsinfo", 25, 26, get.tsinfo, attrs.TSINFO, policy=attrs.ONLY_HEADER_STATS),
    ethnl_request("fec", 29, 30, get.unsupported, attrs.FEC, 30, 31, put.set_unsupported,
        policy=attrs.ONLY_HEADER_STATS),
    ethnl_request("module_eeprom", 31, 32, get.module_eeprom, attrs.MODULE_EEPROM,
        policy=attrs.MODULE_EEPROM),
    ethnl_request("stats", 32, 33, get.stats, attrs.STATS, policy=attrs.STATS,
        check=get.stats_groups),
    ethnl_request("phc_vclocks", 33, 34, get.header_only, attrs.ONLY_HEADER),
    ethnl_request("module", 34, 35, get.header_only, attrs.ONLY_HEADER),
)
"""The settings by their messages; SET is GET + 1."""
# fmt: on
BY_NAME = {request.name: request for request in REQUESTS}


def ethnl_ops() -> Iterator[genl_op]:
    """The family's commands, in the order of their numbers."""
    for request in REQUESTS:
        doit: Any = partial(ethnl_default_doit, request)
        if request is STRSET:
            doit = ethnl_strset_doit
        dumpit = partial(ethnl_default_dumpit, request)
        flags = UNS_ADMIN if request.admin else 0
        yield genl_op(request.cmd, doit, dumpit, request.policy, flags)
        if request.set_cmd:
            setter: Any = partial(ethnl_default_set_doit, request)
            if request is FEATURES:
                setter = ethnl_set_features
            yield genl_op(request.set_cmd, setter, None, request.table, UNS_ADMIN)


ethtool_family = genl_family(
    ETHTOOL_ID, "ethtool", VERSION, tuple(ethnl_ops()), (("monitor", MONITOR),), resv_start_op=35
)

# --- what the group hears -------------------------------------------------------------------------


def ethtool_notify(dev: net_device, what: str) -> None:
    """net/ethtool/netlink.c: send the current values of a setting to the group."""
    request = BY_NAME[what]
    try:
        told = called(dev, request.get, dev, Wanted(compact=True))
    except NlError:
        return
    out = answer(request, dev, told)
    genlmsg_multicast(dev.net, ethtool_family, MONITOR, request.notify, out)


def ethnl_netdev_event(event: int, dev: net_device) -> int:
    """net/ethtool/netlink.c: offloads changed."""
    if event == NETDEV_FEAT_CHANGE and genl_has_listeners(dev.net, MONITOR):
        ethtool_notify(dev, FEATURES.name)
    return 0


def ethnl_net_init(net: Net) -> None:
    """net/ethtool/netlink.c: the family in a namespace."""

    def bind() -> None:
        """Without listeners the calls are skipped."""
        net.ethtool_notify = ethtool_notify if genl_has_listeners(net, MONITOR) else None

    genl_register_family(net, ethtool_family)
    net.nl_table.protocols[NETLINK_GENERIC].bind = bind
    register_netdevice_notifier(net, ethnl_netdev_event)
