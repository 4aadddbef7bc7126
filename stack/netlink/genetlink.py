"""net/netlink/genetlink.c: NETLINK_GENERIC: families of commands, and their controller.

    genl_rcv_msg                the family by the message's type, the command by genlmsghdr
        genl_op.doit            one answer, or a change
        genl_op.dumpit          all, with NLM_F_DUMP: an iterator of messages
    ctrl_getfamily              "nlctrl": a family's number, commands and groups, by its name
    ctrl_dumppolicy             the attribute policies of a family's commands
    genlmsg_multicast           message to a group

A message after the netlink header:

    | cmd 1 | version 1 | reserved 2 | attributes |

A family is a constant (`genl_family`), whose number and groups are the same in every namespace, and
`net.nl_table.families` has the registered ones. Attributes are checked by the command's table
before the command runs; for dumps too, so that an invalid one is an error before the dump. Read
genl_rcv_msg first.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stack.core.uapi import NLM_F_REQUEST
from stack.net import Net
from stack.netlink.af_netlink import (
    netlink_capable,
    netlink_dump_start,
    netlink_reply,
    nlmsg_notify,
    nlmsg_part,
)
from stack.netlink.netlink_sock import (
    NETLINK_GENERIC,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_ECHO,
    NLMSG_HDRLEN,
    netlink_callback,
    netlink_protocol,
    nlmsg,
)
from stack.netlink.nlattr import (
    LIBERAL,
    NESTED,
    NLA_F_NESTED,
    NUL_STRING,
    STRICT,
    U16,
    U32,
    Attr,
    Attrs,
    AttrTable,
    NlError,
    nest,
)
from stack.netlink.nlpolicy import policies_of, policy_attributes

GENLMSGHDR = struct.Struct("=BBH")
GENL_ID_CTRL = 16
GENL_NAMSIZ = 16
ADMIN, UNS_ADMIN, CAP_DO, CAP_DUMP, CAP_HASPOL = 0x01, 0x10, 0x02, 0x04, 0x08


@dataclass(frozen=True, slots=True)
class genl_op:
    """struct genl_split_ops: one command of a family, for one object and as a dump.

    `doit(nlh, tb)` answers, `dumpit(nlh, tb)` gives the messages of a dump. `table` is the policy;
    None: any attributes. `flags`: GENL_ADMIN_PERM, GENL_UNS_ADMIN_PERM.
    """

    cmd: int
    doit: Callable[[nlmsg, Attrs], None] | None = None
    dumpit: Callable[[nlmsg, Attrs], Iterator[bytes]] | None = None
    table: AttrTable | None = None
    flags: int = 0
    validate: int = STRICT
    validate_dump: int = STRICT
    dump_policy: bool = True
    """The policy is that of the dump, too."""


@dataclass(frozen=True, slots=True)
class genl_family:
    """struct genl_family. `mcgrps` are its groups: name and number. Commands from `resv_start_op`
    on may not have reserved bits in their header."""

    id: int
    name: str
    version: int
    ops: tuple[genl_op, ...]
    mcgrps: tuple[tuple[str, int], ...] = ()
    maxattr: int = 0
    resv_start_op: int = 1 << 8

    def op(self, cmd: int) -> genl_op | None:
        """The command, or None."""
        return next((op for op in self.ops if op.cmd == cmd), None)


# --- messages -----------------------------------------------------------------------------------


def genlmsg(family: genl_family, cmd: int, attributes: bytes) -> bytes:
    """The payload of a netlink message: struct genlmsghdr and attributes."""
    return GENLMSGHDR.pack(cmd, family.version, 0) + attributes


def genlmsg_reply(nlh: nlmsg, family: genl_family, cmd: int, attributes: bytes) -> None:
    """include/net/genetlink.h: answer the requester."""
    netlink_reply(nlh, family.id, genlmsg(family, cmd, attributes))


def genlmsg_part(nlh: nlmsg, family: genl_family, cmd: int, attributes: bytes) -> bytes:
    """One message of a dump."""
    return nlmsg_part(nlh, family.id, genlmsg(family, cmd, attributes))


def genl_has_listeners(net: Net, group: int) -> bool:
    """include/net/genetlink.h: whether a group has listeners."""
    return bool(net.nl_table.protocols[NETLINK_GENERIC].listeners.get(group))


def genlmsg_multicast(
    net: Net, family: genl_family, group: int, cmd: int, attributes: bytes
) -> None:
    """include/net/genetlink.h: send to a group."""
    nlmsg_notify(net, NETLINK_GENERIC, group, family.id, genlmsg(family, cmd, attributes))


def genl_rcv_msg(nlh: nlmsg) -> None:
    """net/netlink/genetlink.c: answer one message. Raises: NlError."""
    family: genl_family | None = nlh.sk.net.nl_table.families.get(nlh.type)
    if family is None:
        raise NlError(errno.ENOENT)
    if len(nlh.payload) < GENLMSGHDR.size:
        raise NlError(errno.EINVAL)
    cmd, _, reserved = GENLMSGHDR.unpack_from(nlh.payload)
    genl_header_check(family, nlh, cmd, reserved)
    dump = nlh.flags & NLM_F_DUMP == NLM_F_DUMP
    op = family.op(cmd)
    if op is None or (op.dumpit if dump else op.doit) is None:
        raise NlError(errno.EOPNOTSUPP)
    if op.flags & (ADMIN | UNS_ADMIN) and not netlink_capable(nlh.sk):
        raise NlError(errno.EPERM)
    tb = Attrs()
    if op.table is not None and (op.dump_policy or not dump):
        validate = op.validate_dump if dump else op.validate
        tb = op.table.parse(nlh.whole, NLMSG_HDRLEN + GENLMSGHDR.size, validate)
    if dump:
        assert op.dumpit is not None
        netlink_dump_start(nlh, netlink_callback(nlh, op.dumpit(nlh, tb)))
    else:
        assert op.doit is not None
        op.doit(nlh, tb)


def genl_header_check(family: genl_family, nlh: nlmsg, cmd: int, reserved: int) -> None:
    """net/netlink/genetlink.c: newer commands take no reserved bits. Raises: NlError EINVAL."""
    if cmd < family.resv_start_op:
        return
    if reserved:
        raise NlError(errno.EINVAL, "genlmsghdr.reserved field is not 0")
    flags = nlh.flags
    if flags & NLM_F_DUMP != NLM_F_DUMP and flags & ~(NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO):
        raise NlError(errno.EINVAL, "ambiguous or reserved bits set in nlmsg_flags")


# --- the controller -----------------------------------------------------------------------------

CTRL_CMD_NEWFAMILY, CTRL_CMD_GETFAMILY, CTRL_CMD_GETPOLICY = 1, 3, 10
CTRL_OP = AttrTable("CTRL_ATTR_OP", Attr("CTRL_ATTR_OP_ID", 1, U32), Attr("FLAGS", 2, U32))
CTRL_GROUP = AttrTable(
    "CTRL_ATTR_MCAST_GRP",
    Attr("CTRL_ATTR_MCAST_GRP_NAME", 1, NUL_STRING),
    Attr("CTRL_ATTR_MCAST_GRP_ID", 2, U32),
)
CTRL = AttrTable(
    "CTRL_ATTR",
    Attr("CTRL_ATTR_FAMILY_ID", 1, U16),
    Attr("CTRL_ATTR_FAMILY_NAME", 2, NUL_STRING, GENL_NAMSIZ - 1),
    Attr("CTRL_ATTR_VERSION", 3, U32, told=True),
    Attr("CTRL_ATTR_HDRSIZE", 4, U32, told=True),
    Attr("CTRL_ATTR_MAXATTR", 5, U32, told=True),
    Attr("CTRL_ATTR_OPS", 6, NESTED, told=True),
    Attr("CTRL_ATTR_MCAST_GROUPS", 7, NESTED, told=True),
    Attr("CTRL_ATTR_POLICY", 8, NESTED, told=True, flagged=True),
    Attr("CTRL_ATTR_OP_POLICY", 9, NESTED, told=True, flagged=True),
)
"""The attributes of a family."""
CTRL_FAMILY = AttrTable("CTRL_ATTR", CTRL.by_number[1], CTRL.by_number[2])
CTRL_POLICY = AttrTable(
    "CTRL_ATTR", CTRL.by_number[1], CTRL.by_number[2], Attr("CTRL_ATTR_OP", 10, U32)
)


def numbered(parts: list[bytes]) -> bytes:
    """A list: each part nested under its index, from 1 on."""
    return b"".join([nest(number, part) for number, part in enumerate(parts, 1)])


def op_flags(op: genl_op) -> int:
    """CTRL_ATTR_OP_FLAGS of a command."""
    flags = op.flags | (CAP_DO if op.doit is not None else 0)
    flags |= CAP_DUMP if op.dumpit is not None else 0
    return flags | (CAP_HASPOL if op.table is not None else 0)


def ctrl_fill_info(family: genl_family) -> bytes:
    """net/netlink/genetlink.c: the attributes of a family."""
    ops = [CTRL_OP.build({"CTRL_ATTR_OP_ID": op.cmd, "FLAGS": op_flags(op)}) for op in family.ops]
    groups = [
        CTRL_GROUP.build({"CTRL_ATTR_MCAST_GRP_ID": number, "CTRL_ATTR_MCAST_GRP_NAME": name})
        for name, number in family.mcgrps
    ]
    return CTRL.build(
        {
            "CTRL_ATTR_FAMILY_NAME": family.name,
            "CTRL_ATTR_FAMILY_ID": family.id,
            "CTRL_ATTR_VERSION": family.version,
            "CTRL_ATTR_HDRSIZE": 0,
            "CTRL_ATTR_MAXATTR": family.maxattr,
            "CTRL_ATTR_OPS": numbered(ops) or None,
            "CTRL_ATTR_MCAST_GROUPS": numbered(groups) or None,
        }
    )


def family_of(nlh: nlmsg, tb: Attrs) -> genl_family:
    """The family that a request names; if it has number and name, the name counts.

    Raises: NlError EINVAL: none is named; ENOENT.
    """
    families: dict[int, genl_family] = nlh.sk.net.nl_table.families
    if "CTRL_ATTR_FAMILY_NAME" in tb:
        found = [one for one in families.values() if one.name == tb["CTRL_ATTR_FAMILY_NAME"]]
    elif "CTRL_ATTR_FAMILY_ID" in tb:
        found = [one for number, one in families.items() if number == tb["CTRL_ATTR_FAMILY_ID"]]
    else:
        raise NlError(errno.EINVAL)
    if not found:
        raise NlError(errno.ENOENT)
    return found[0]


def ctrl_getfamily(nlh: nlmsg, tb: Attrs) -> None:
    """net/netlink/genetlink.c: CTRL_CMD_GETFAMILY."""
    genlmsg_reply(nlh, genl_ctrl, CTRL_CMD_NEWFAMILY, ctrl_fill_info(family_of(nlh, tb)))


def ctrl_dumpfamily(nlh: nlmsg, tb: Attrs) -> Iterator[bytes]:
    """net/netlink/genetlink.c: the same for all families."""
    families = tuple(nlh.sk.net.nl_table.families.values())
    return (
        genlmsg_part(nlh, genl_ctrl, CTRL_CMD_NEWFAMILY, ctrl_fill_info(one)) for one in families
    )


def ctrl_dumppolicy(nlh: nlmsg, tb: Attrs) -> Iterator[bytes]:
    """net/netlink/genetlink.c: CTRL_CMD_GETPOLICY: which policies commands have, then each of them.

    Raises: NlError EINVAL, ENOENT, ENODATA: the command has none.
    """
    family = family_of(nlh, tb)
    ops = family.ops
    if "CTRL_ATTR_OP" in tb:
        op = family.op(tb["CTRL_ATTR_OP"])
        if op is None:
            raise tb.wrong("CTRL_ATTR_OP", "", errno.ENOENT)
        if op.table is None:
            raise NlError(errno.ENODATA)
        ops = (op,)
    return _policy_messages(nlh, family, ops)


def _policy_messages(nlh: nlmsg, family: genl_family, ops: tuple[genl_op, ...]) -> Iterator[bytes]:
    tables = policies_of([op.table for op in ops if op.table is not None])
    for op in ops:
        own = b""
        for number, function in ((1, op.doit), (2, op.dumpit)):
            if function is None or op.table is None or (number == 2 and not op.dump_policy):
                continue
            own += nest(number, U32.put(tables[op.table]))
        if own:
            # Linux names the command of DO, so one that only dumps is 0.
            cmd = op.cmd if op.doit is not None else 0
            nested = nest(cmd | NLA_F_NESTED, own)
            yield _policy_message(nlh, family, "CTRL_ATTR_OP_POLICY", nested)
    for table, index in tables.items():
        for number, attributes in policy_attributes(table, tables):
            nested = nest(index | NLA_F_NESTED, nest(number | NLA_F_NESTED, attributes))
            yield _policy_message(nlh, family, "CTRL_ATTR_POLICY", nested)


def _policy_message(nlh: nlmsg, family: genl_family, name: str, nested: bytes) -> bytes:
    told = CTRL.build({"CTRL_ATTR_FAMILY_ID": family.id, name: nested})
    return genlmsg_part(nlh, genl_ctrl, CTRL_CMD_GETPOLICY, told)


genl_ctrl = genl_family(
    GENL_ID_CTRL,
    "nlctrl",
    2,
    (
        genl_op(
            CTRL_CMD_GETFAMILY, ctrl_getfamily, ctrl_dumpfamily, CTRL_FAMILY, 0, LIBERAL, LIBERAL
        ),
        genl_op(CTRL_CMD_GETPOLICY, None, ctrl_dumppolicy, CTRL_POLICY),
    ),
    (("notify", GENL_ID_CTRL),),
    resv_start_op=CTRL_CMD_GETPOLICY + 1,
)
GROUPS = 32


def genl_register_family(net: Net, family: genl_family) -> None:
    """net/netlink/genetlink.c: register a family."""
    net.nl_table.families[family.id] = family


def genl_net_init(net: Net) -> None:
    """net/netlink/genetlink.c: NETLINK_GENERIC in a namespace."""
    net.nl_table.protocols[NETLINK_GENERIC] = netlink_protocol(
        NETLINK_GENERIC, GROUPS, genl_rcv_msg, nonroot_recv=True
    )
    genl_register_family(net, genl_ctrl)
