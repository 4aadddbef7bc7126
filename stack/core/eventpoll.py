"""epoll (fs/eventpoll.c): a set of open files, and the list of those that may be ready.

An epitem is an entry in the wait queue of its file. A wake-up puts it on its eventpoll's ready
list, and `ep_send_events` polls each item of that list. The kernel needs a second list for items
that become ready in the meantime. Here the host's lock is held, so none can.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core.errors import os_error
from stack.core.file import (
    O_CLOEXEC,
    O_RDWR,
    fd_install,
    fget,
    file_operations,
    fput,
    get_file,
    struct_file,
    vfs_poll,
)
from stack.core.net_namespace import pernet_operations
from stack.core.rows import row, state
from stack.core.select import timespec_ns
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM
from stack.core.wait import wait_queue_head, wake_up_poll
from stack.net import Net

# include/uapi/linux/eventpoll.h; EPOLLIN to EPOLLRDHUP are POLLIN to POLLRDHUP
EPOLL_CLOEXEC = O_CLOEXEC
EPOLL_CTL_ADD = 1
EPOLL_CTL_DEL = 2
EPOLL_CTL_MOD = 3
EPOLLEXCLUSIVE = 1 << 28
EPOLLWAKEUP = 1 << 29
EPOLLONESHOT = 1 << 30
EPOLLET = 1 << 31

EP_PRIVATE_BITS = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE
EPOLLINOUT_BITS = POLLIN | POLLOUT
EPOLLEXCLUSIVE_OK_BITS = (
    EPOLLINOUT_BITS | POLLERR | POLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE
)
EP_MAX_NESTS = 4
EP_MAX_EVENTS = 0x7FFFFFFF // 12  # sizeof(struct epoll_event)
EP_MAX_WATCHES = 1 << 20
"""fs.epoll.max_user_watches, for all sets of a namespace. The kernel computes it from its RAM."""
PATH_LIMITS = (1000, 500, 100, 50, 10)
"""The most wake-up paths that one file may have, by the number of epolls in a path (1 to 5)."""
TOO_DEEP = 1 << 30  # INT_MAX of ep_loop_check_proc


@state
class epitem:
    """struct epitem: one watched descriptor. `events` EPOLL* bits, `data` the caller's.

    It is in its eventpoll's ready list while `linked`; `before` and `behind` are its neighbours.
    """

    ep: eventpoll
    ffd_file: struct_file
    ffd_fd: int
    events: int
    data: Any
    whead: wait_queue_head | None = row()
    linked: bool = row(False)
    before: epitem | None = row()
    behind: epitem | None = row()

    def wake(self) -> bool:
        """The entry in the wait queue."""
        return ep_poll_callback(self)


@state
class eventpoll:
    """struct eventpoll."""

    net: Net
    file: struct_file = row()
    rbr: dict[tuple[int, int], epitem] = row(make=dict)
    """By file id and descriptor: after dup() and close() a number may belong to another file."""
    rdl_first: epitem | None = row()
    rdl_last: epitem | None = row()
    rdl_len: int = row(0)
    sleepers: int = row(0)
    """Callers that sleep in epoll_wait."""
    wq: wait_queue_head = row(of=lambda ep: wait_queue_head(ep.net.wake_clock))
    """Their wait queue. Its clock is set when they sleep in threads, which need waking."""
    poll_wait: wait_queue_head = row(of=lambda ep: wait_queue_head(ep.net.wake_clock))
    """The wait queue of those that poll this set."""
    gen: int = row(0)
    loop_check_depth: int = row(0)


@state
class ep_globals:
    """State of the check for loops and paths, which the kernel keeps in static variables."""

    loop_check_gen: int = row(0)
    inserting_into: eventpoll | None = row()
    tfile_check_list: list[struct_file] = row(make=list)
    path_count: list[int] = row(make=list)
    watches: int = row(0)


# --- the ready list ------------------------------------------------------------------------


def ep_list_add_tail(ep: eventpoll, epi: epitem) -> None:
    """list_add_tail(&epi->rdllink, &ep->rdllist)"""
    last = ep.rdl_last
    epi.before = last
    if last is None:
        ep.rdl_first = epi
    else:
        last.behind = epi
    ep.rdl_last = epi
    epi.linked = True
    ep.rdl_len += 1


def ep_list_del(ep: eventpoll, epi: epitem) -> None:
    """list_del_init(&epi->rdllink)"""
    before = epi.before
    behind = epi.behind
    if before is None:
        ep.rdl_first = behind
    else:
        before.behind = behind
    if behind is None:
        ep.rdl_last = before
    else:
        behind.before = before
    epi.before = epi.behind = None
    epi.linked = False
    ep.rdl_len -= 1


# --- files ---------------------------------------------------------------------------------


def ep_eventpoll_of(file: struct_file) -> eventpoll | None:
    """The set behind an open file; None when it is no epoll (is_file_epoll)."""
    return file.ep


def file_can_poll(file: struct_file) -> bool:
    """include/linux/poll.h"""
    return file.f_op.poll is not None


def ep_item_poll(epi: epitem, depth: int) -> int:
    """fs/eventpoll.c: the item's events that its file reports now."""
    ep = epi.ffd_file.ep
    bits = vfs_poll(epi.ffd_file) if ep is None else __ep_eventpoll_poll(ep, depth)
    return bits & epi.events


def ep_eventpoll_poll(file: struct_file) -> int:
    """fs/eventpoll.c: file_operations.poll of an epoll: POLLIN when an item is ready."""
    ep: eventpoll = file.private_data
    return __ep_eventpoll_poll(ep, 0)


def __ep_eventpoll_poll(ep: eventpoll, depth: int) -> int:
    """fs/eventpoll.c: items that turn out not to be ready leave the list."""
    epi: epitem | None = ep.rdl_first
    while epi is not None:
        behind = epi.behind
        if ep_item_poll(epi, depth + 1):
            return POLLIN | POLLRDNORM
        ep_list_del(ep, epi)
        epi = behind
    return 0


def ep_eventpoll_wait(file: struct_file) -> wait_queue_head:
    """The wait queue for those that poll the set."""
    ep: eventpoll = file.private_data
    return ep.poll_wait


def ep_eventpoll_release(file: struct_file) -> None:
    """fs/eventpoll.c: the set is closed: remove its items."""
    ep: eventpoll = file.private_data
    for epi in tuple(ep.rbr.values()):
        ep_remove(ep, epi)


def eventpoll_release_file(file: struct_file) -> None:
    """fs/eventpoll.c: the last descriptor of a watched file was closed: remove it from all sets."""
    if file.f_ep is not None:
        for epi in tuple(file.f_ep):
            ep_remove(epi.ep, epi)


eventpoll_fops = file_operations(
    release=ep_eventpoll_release,
    poll=ep_eventpoll_poll,
    poll_wait=ep_eventpoll_wait,
)


# --- wake-ups ------------------------------------------------------------------------------


def ep_wake_up(ep: eventpoll) -> bool:
    """wake_up(&ep->wq). Returns whether anybody slept there."""
    if ep.sleepers:
        wake_up_poll(ep.wq, 0)
        return True
    return False


def ep_poll_safewake(ep: eventpoll) -> None:
    """fs/eventpoll.c: wake those that poll the set, other epolls included."""
    wake_up_poll(ep.poll_wait, POLLIN)


def ep_poll_callback(epi: epitem) -> bool:
    """fs/eventpoll.c: a watched file woke its queue. Returns whether an exclusive wake-up may end.

    Ignores an item that EPOLLONESHOT disabled, and a wake-up about none of the item's events.
    """
    ep = epi.ep
    events = epi.events
    whead = epi.whead
    pollflags = 0 if whead is None else whead.key
    ewake = not events & EPOLLEXCLUSIVE
    if not events & ~EP_PRIVATE_BITS or (pollflags and not pollflags & events):
        return ewake
    if not epi.linked:
        ep_list_add_tail(ep, epi)
    if ep_wake_up(ep) and not ewake:
        inout = pollflags & EPOLLINOUT_BITS
        ewake = not inout or (inout != EPOLLINOUT_BITS and bool(events & inout))
    if ep.poll_wait.waiters:
        ep_poll_safewake(ep)
    return ewake


# --- items ---------------------------------------------------------------------------------


def ep_find(ep: eventpoll, file: struct_file, fd: int) -> epitem | None:
    """fs/eventpoll.c: the item of a file under a descriptor, or None."""
    return ep.rbr.get((id(file), fd))


def ep_insert(
    ep: eventpoll, events: int, data: Any, tfile: struct_file, fd: int, full_check: bool
) -> None:
    """fs/eventpoll.c: watch `tfile`. Raises: OSError ENOSPC, EINVAL (too many wake-up paths)."""
    shared: ep_globals = ep.net.epoll
    if shared.watches >= EP_MAX_WATCHES:
        raise os_error(errno.ENOSPC, f"{shared.watches} files are watched by epolls")
    epi = epitem(ep, tfile, fd, events, data)
    if tfile.f_ep is None:
        tfile.f_ep = []
        tfile.f_ep_release = eventpoll_release_file
    tfile.f_ep.insert(0, epi)
    ep.rbr[id(tfile), fd] = epi
    shared.watches += 1
    if full_check:
        if ep_eventpoll_of(tfile) is None:
            list_file(shared, tfile)
        if reverse_path_check(shared):
            ep_remove(ep, epi)
            raise os_error(errno.EINVAL, "too many paths from a file through epolls")
    queue = tfile.f_op.poll_wait
    if queue is not None:
        whead = epi.whead = queue(tfile)
        if events & EPOLLEXCLUSIVE:
            whead.add_exclusive(epi.wake)
        else:
            whead.add_first(epi.wake)
    ep_ready_now(ep, epi)


def ep_ready_now(ep: eventpoll, epi: epitem) -> None:
    """The end of ep_insert and ep_modify: put the item on the ready list if it is ready already."""
    if ep_item_poll(epi, 1) and not epi.linked:
        ep_list_add_tail(ep, epi)
        ep_wake_up(ep)
        if ep.poll_wait.waiters:
            ep_poll_safewake(ep)


def ep_modify(ep: eventpoll, epi: epitem, events: int, data: Any) -> None:
    """fs/eventpoll.c: change an item's events and data."""
    epi.events = events
    epi.data = data
    ep_ready_now(ep, epi)


def ep_remove(ep: eventpoll, epi: epitem) -> None:
    """fs/eventpoll.c: watch it no longer."""
    whead = epi.whead
    if whead is not None:
        whead.remove(epi.wake)
        epi.whead = None
    file = epi.ffd_file
    if file.f_ep is not None:
        file.f_ep.remove(epi)
    del ep.rbr[id(file), epi.ffd_fd]
    if epi.linked:
        ep_list_del(ep, epi)
    ep.net.epoll.watches -= 1


# --- loops and paths -----------------------------------------------------------------------


def list_file(shared: ep_globals, file: struct_file) -> None:
    """fs/eventpoll.c: list a file whose wake-up paths must be counted."""
    for listed in shared.tfile_check_list:
        if listed is file:
            return
    shared.tfile_check_list.append(file)


def ep_loop_check_proc(shared: ep_globals, ep: eventpoll, depth: int) -> int:
    """fs/eventpoll.c: how deep sets nest below `ep`; more than EP_MAX_NESTS is an error."""
    if ep.gen == shared.loop_check_gen:
        return ep.loop_check_depth
    result = 0
    ep.gen = shared.loop_check_gen
    for epi in ep.rbr.values():
        inner = ep_eventpoll_of(epi.ffd_file)
        if inner is None:
            list_file(shared, epi.ffd_file)
            continue
        if inner is shared.inserting_into or depth > EP_MAX_NESTS:
            result = TOO_DEEP
        else:
            below = ep_loop_check_proc(shared, inner, depth + 1) + 1
            if below > result:
                result = below
        if result > EP_MAX_NESTS:
            break
    ep.loop_check_depth = result
    return result


def ep_get_upwards_depth_proc(shared: ep_globals, ep: eventpoll, depth: int) -> int:
    """fs/eventpoll.c: how deep `ep` lies in other sets."""
    if ep.gen == shared.loop_check_gen:
        return ep.loop_check_depth
    result = 0
    outer = ep.file.f_ep
    if outer is not None:
        for entry in outer:
            epi: epitem = entry
            above = ep_get_upwards_depth_proc(shared, epi.ep, depth + 1) + 1
            if above > result:
                result = above
    ep.gen = shared.loop_check_gen
    ep.loop_check_depth = result
    return result


def ep_loop_check(shared: ep_globals, ep: eventpoll, to: eventpoll) -> bool:
    """fs/eventpoll.c: whether `ep` must not watch `to`, because of a loop or too many levels."""
    shared.inserting_into = ep
    depth = ep_loop_check_proc(shared, to, 0)
    if depth > EP_MAX_NESTS:
        return True
    return depth + 1 + ep_get_upwards_depth_proc(shared, ep, 0) > EP_MAX_NESTS


def path_count_inc(shared: ep_globals, nests: int) -> bool:
    """fs/eventpoll.c: count a path of `nests` + 1 epolls. True: too many. Those of 1 are free."""
    if not nests:
        return False
    shared.path_count[nests] += 1
    return shared.path_count[nests] > PATH_LIMITS[nests]


def reverse_path_check_proc(shared: ep_globals, file: struct_file, depth: int) -> bool:
    """fs/eventpoll.c: count the paths from a file up to epolls that no other epoll watches."""
    if depth > EP_MAX_NESTS:
        return True
    watchers = file.f_ep
    if watchers is not None:
        for entry in watchers:
            epi: epitem = entry
            outer = epi.ep.file
            if outer.f_ep:
                wrong = reverse_path_check_proc(shared, outer, depth + 1)
            else:
                wrong = path_count_inc(shared, depth)
            if wrong:
                return True
    return False


def reverse_path_check(shared: ep_globals) -> bool:
    """fs/eventpoll.c: whether a file of the check list has too many wake-up paths."""
    for file in shared.tfile_check_list:
        shared.path_count = [0] * len(PATH_LIMITS)
        if reverse_path_check_proc(shared, file, 0):
            return True
    return False


# --- the calls -----------------------------------------------------------------------------


def eventpoll_init(net: Net) -> None:
    """fs/eventpoll.c: the state that all sets of a namespace share."""
    net.epoll = ep_globals()


eventpoll_net_ops = pernet_operations(init=eventpoll_init)


def sys_epoll_create1(net: Net, flags: int = 0) -> int:
    """epoll_create1(2): a descriptor; EPOLL_CLOEXEC. Raises: OSError EINVAL, EMFILE."""
    if flags & ~EPOLL_CLOEXEC:
        raise os_error(errno.EINVAL, f"epoll_create1: flags {flags:#x}")
    ep = eventpoll(net)
    ep.file = file = struct_file(net, eventpoll_fops, ep, O_RDWR)
    file.ep = ep
    return fd_install(net, file, flags)


def sys_epoll_create(net: Net, size: int) -> int:
    """epoll_create(2). Raises: OSError EINVAL, EMFILE."""
    if size <= 0:
        raise os_error(errno.EINVAL, f"epoll_create: size {size}")
    return sys_epoll_create1(net, 0)


def sys_epoll_ctl(net: Net, epfd: int, op: int, fd: int, events: int = 0, data: Any = 0) -> None:
    """epoll_ctl(2): EPOLL_CTL_ADD, MOD or DEL; `events` and `data` of struct epoll_event.

    Raises: OSError EBADF, EPERM (a file that cannot be polled), EINVAL, EEXIST, ENOENT, ELOOP,
        ENOSPC.
    """
    do_epoll_ctl(net, epfd, op, fd, events & 0xFFFFFFFF, data)


def do_epoll_ctl(net: Net, epfd: int, op: int, fd: int, events: int, data: Any) -> None:
    """fs/eventpoll.c"""
    file: struct_file = fget(net, epfd)
    tfile: struct_file = fget(net, fd)
    if not file_can_poll(tfile):
        raise os_error(errno.EPERM, f"{fd} cannot be polled")
    ep = ep_eventpoll_of(file)
    if file is tfile or ep is None:
        raise os_error(errno.EINVAL, f"{epfd} is no epoll, or {fd} the same")
    events &= ~EPOLLWAKEUP  # a host is never suspended
    inner = ep_eventpoll_of(tfile)
    if (
        op != EPOLL_CTL_DEL
        and events & EPOLLEXCLUSIVE
        and (
            op == EPOLL_CTL_MOD
            or (op == EPOLL_CTL_ADD and (inner is not None or events & ~EPOLLEXCLUSIVE_OK_BITS))
        )
    ):
        raise os_error(errno.EINVAL, "EPOLLEXCLUSIVE does not go with that")
    shared: ep_globals = net.epoll
    full_check = False
    if op == EPOLL_CTL_ADD and (file.f_ep or inner is not None):
        full_check = True
        shared.loop_check_gen += 1
        shared.tfile_check_list = []
        if inner is not None and ep_loop_check(shared, ep, inner):
            shared.tfile_check_list = []
            raise os_error(errno.ELOOP, "epolls watch each other in a circle, or more than 5 deep")
    epi = ep_find(ep, tfile, fd)
    if op == EPOLL_CTL_ADD:
        if epi is not None:
            raise FileExistsError(errno.EEXIST, f"{fd} is watched already")
        try:
            ep_insert(ep, events | POLLERR | POLLHUP, data, tfile, fd, full_check)
        finally:
            shared.tfile_check_list = []
        return
    if op != EPOLL_CTL_DEL and op != EPOLL_CTL_MOD:
        raise os_error(errno.EINVAL, f"epoll_ctl: unknown operation {op}")
    if epi is None:
        raise os_error(errno.ENOENT, f"{fd} is not watched")
    if op == EPOLL_CTL_DEL:
        ep_remove(ep, epi)
    elif epi.events & EPOLLEXCLUSIVE:
        raise os_error(errno.EINVAL, "what is watched with EPOLLEXCLUSIVE cannot be modified")
    else:
        ep_modify(ep, epi, events | POLLERR | POLLHUP, data)


def ep_send_events(ep: eventpoll, maxevents: int) -> list[tuple[int, Any]]:
    """fs/eventpoll.c: [(events, data)] of items that are ready, at most `maxevents`.

    Level-triggered items return to the end of the list, so that the next call begins with the items
    that exceeded `maxevents` in this one.
    """
    found: list[tuple[int, Any]] = []
    count = ep.rdl_len
    while count and len(found) < maxevents:
        count -= 1
        epi: epitem = ep.rdl_first  # type: ignore[assignment]  # rdl_len counts them
        ep_list_del(ep, epi)
        revents = ep_item_poll(epi, 1)
        if not revents:
            continue
        found.append((revents, epi.data))
        if epi.events & EPOLLONESHOT:
            epi.events &= EP_PRIVATE_BITS
        elif not epi.events & EPOLLET:
            ep_list_add_tail(ep, epi)
    if ep.rdl_first is not None:
        ep_wake_up(ep)
    return found


def ep_poll(ep: eventpoll, maxevents: int, timeout_ns: int | None) -> list[tuple[int, Any]]:
    """fs/eventpoll.c: sleep until an item is ready or the timeout; the events of ready items."""
    clock = ep.net.clock
    end_ns = None if timeout_ns is None else clock.now_ns() + timeout_ns
    while True:
        if ep.rdl_first is not None:
            found = ep_send_events(ep, maxevents)
            if found:
                return found
        left_ns = None if end_ns is None else end_ns - clock.now_ns()
        if left_ns is not None and left_ns <= 0:
            return []
        ep.sleepers += 1
        try:
            ep_sleep(ep, left_ns)
        finally:
            ep.sleepers -= 1


def ep_sleep(ep: eventpoll, timeout_ns: int | None) -> None:
    """Sleep until the ready list is not empty or the timeout."""
    ep.net.clock.wait(lambda: ep.rdl_first is not None, timeout_ns)


def do_epoll_wait(
    net: Net, epfd: int, maxevents: int, timeout_ns: int | None
) -> list[tuple[int, Any]]:
    """fs/eventpoll.c"""
    file: struct_file = fget(net, epfd)
    if not 0 < maxevents <= EP_MAX_EVENTS:
        raise os_error(errno.EINVAL, f"epoll_wait: maxevents is {maxevents}")
    ep = ep_eventpoll_of(file)
    if ep is None:
        raise os_error(errno.EINVAL, f"{epfd} is no epoll")
    get_file(file)
    try:
        return ep_poll(ep, maxevents, timeout_ns)
    finally:
        fput(file)


def sys_epoll_wait(
    net: Net, epfd: int, maxevents: int, timeout_ms: int = -1
) -> list[tuple[int, Any]]:
    """epoll_wait(2): [(events, data)]; a negative timeout waits for ever.

    Raises: OSError EBADF, EINVAL.
    """
    return do_epoll_wait(
        net, epfd, maxevents, None if timeout_ms < 0 else timeout_ms * NSEC_PER_MSEC
    )


def sys_epoll_pwait(
    net: Net, epfd: int, maxevents: int, timeout_ms: int = -1, sigmask: object = None
) -> list[tuple[int, Any]]:
    """epoll_pwait(2). A host's programs block no signals: `sigmask` is unused."""
    return sys_epoll_wait(net, epfd, maxevents, timeout_ms)


def sys_epoll_pwait2(
    net: Net,
    epfd: int,
    maxevents: int,
    timeout: tuple[int, int] | None = None,
    sigmask: object = None,
) -> list[tuple[int, Any]]:
    """epoll_pwait2(2): `timeout` (seconds, ns), None for ever. Raises: OSError EBADF, EINVAL."""
    return do_epoll_wait(net, epfd, maxevents, timespec_ns(timeout))
