/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions of e1000stack.h: each hands its arguments on to the call of its name in host.py.
 */
#define _GNU_SOURCE /* dladdr */
#include "call.h"
#include "e1000stack.h"

const char *e1000stack_last_error(void)
{
    return last_error;
}

const char *e1000stack_version(void)
{
    return PATHS_VERSION " (Python " PY_VERSION ")";
}

int e1000stack_clock(uint64_t start_ns)
{
    return (int)CALL("clock", (int64_t)start_ns);
}

int e1000stack_callback_clock(const struct e1000stack_time *time)
{
    return (int)CALL("callback_clock", AT(time));
}

int e1000stack_run(int clock)
{
    return (int)CALL("run", clock);
}

int e1000stack_clock_close(int clock)
{
    return (int)CALL("clock_close", clock);
}

int e1000stack_now(int clock, uint64_t *now_ns)
{
    return (int)CALL("now", clock, AT(now_ns));
}

int e1000stack_next(int clock, uint64_t *when_ns)
{
    return (int)CALL("next", clock, AT(when_ns));
}

int e1000stack_run_until(int clock, uint64_t when_ns)
{
    return (int)CALL("run_until", clock, (int64_t)when_ns);
}

int e1000stack_host(int clock, const char *name)
{
    return (int)CALL("host", clock, AT(name));
}

int e1000stack_host_close(int host)
{
    return (int)CALL("host_close", host);
}

int e1000stack_sysctl(int host, const char *name, const char *value)
{
    return (int)CALL("sysctl", host, AT(name), AT(value));
}

int e1000stack_link(int a, const char *name_a, int b, const char *name_b,
                    const struct e1000stack_link *options)
{
    return (int)CALL("link", a, AT(name_a), b, AT(name_b), AT(options));
}

int e1000stack_tun(int host, const char *name, unsigned mtu)
{
    return (int)CALL("tun", host, AT(name), (int64_t)mtu);
}

int e1000stack_tun_send(int tun, const void *packet, size_t bytes)
{
    return (int)CALL("tun_send", tun, AT(packet), (int64_t)bytes);
}

ssize_t e1000stack_tun_receive(int tun, void *packet, size_t room, uint64_t *when_ns)
{
    return CALL("tun_receive", tun, AT(packet), (int64_t)room, AT(when_ns));
}

int e1000stack_addr(int host, const char *name, const char *address)
{
    return (int)CALL("addr", host, AT(name), AT(address));
}

int e1000stack_route(int host, const char *prefix, const char *via, const char *name)
{
    return (int)CALL("route", host, AT(prefix), AT(via), AT(name));
}

int e1000stack_socket(int host, int domain, int type, int protocol)
{
    return (int)CALL("socket", host, domain, type, protocol);
}

int e1000stack_bind(int host, int fd, const struct sockaddr *addr, socklen_t bytes)
{
    return (int)CALL("bind", host, fd, AT(addr), bytes);
}

int e1000stack_listen(int host, int fd, int backlog)
{
    return (int)CALL("listen", host, fd, backlog);
}

int e1000stack_accept4(int host, int fd, struct sockaddr *addr, socklen_t *bytes, int flags)
{
    return (int)CALL("accept4", host, fd, AT(addr), AT(bytes), flags);
}

int e1000stack_connect(int host, int fd, const struct sockaddr *addr, socklen_t bytes)
{
    return (int)CALL("connect", host, fd, AT(addr), bytes);
}

int e1000stack_getsockname(int host, int fd, struct sockaddr *addr, socklen_t *bytes)
{
    return (int)CALL("getsockname", host, fd, AT(addr), AT(bytes));
}

int e1000stack_getpeername(int host, int fd, struct sockaddr *addr, socklen_t *bytes)
{
    return (int)CALL("getpeername", host, fd, AT(addr), AT(bytes));
}

ssize_t e1000stack_read(int host, int fd, void *data, size_t bytes)
{
    return CALL("read", host, fd, AT(data), (int64_t)bytes);
}

ssize_t e1000stack_readv(int host, int fd, const struct iovec *iov, int count)
{
    return CALL("readv", host, fd, AT(iov), count);
}

ssize_t e1000stack_recvfrom(int host, int fd, void *data, size_t bytes, int flags,
                            struct sockaddr *addr, socklen_t *addr_bytes)
{
    return CALL("recvfrom", host, fd, AT(data), (int64_t)bytes, flags, AT(addr), AT(addr_bytes));
}

ssize_t e1000stack_recvmsg(int host, int fd, struct msghdr *message, int flags)
{
    return CALL("recvmsg", host, fd, AT(message), flags);
}

ssize_t e1000stack_write(int host, int fd, const void *data, size_t bytes)
{
    return CALL("write", host, fd, AT(data), (int64_t)bytes);
}

ssize_t e1000stack_writev(int host, int fd, const struct iovec *iov, int count)
{
    return CALL("writev", host, fd, AT(iov), count);
}

ssize_t e1000stack_sendto(int host, int fd, const void *data, size_t bytes, int flags,
                          const struct sockaddr *addr, socklen_t addr_bytes)
{
    return CALL("sendto", host, fd, AT(data), (int64_t)bytes, flags, AT(addr), addr_bytes);
}

ssize_t e1000stack_sendmsg(int host, int fd, const struct msghdr *message, int flags)
{
    return CALL("sendmsg", host, fd, AT(message), flags);
}

int e1000stack_getsockopt(int host, int fd, int level, int name, void *value, socklen_t *bytes)
{
    return (int)CALL("getsockopt", host, fd, level, name, AT(value), AT(bytes));
}

int e1000stack_setsockopt(int host, int fd, int level, int name, const void *value,
                          socklen_t bytes)
{
    return (int)CALL("setsockopt", host, fd, level, name, AT(value), bytes);
}

int e1000stack_fcntl(int host, int fd, int command, long value)
{
    return (int)CALL("fcntl", host, fd, command, value);
}

int e1000stack_ioctl(int host, int fd, unsigned long request, void *value)
{
    return (int)CALL("ioctl", host, fd, (int64_t)request, AT(value));
}

int e1000stack_shutdown(int host, int fd, int how)
{
    return (int)CALL("shutdown", host, fd, how);
}

int e1000stack_close(int host, int fd)
{
    return (int)CALL("close", host, fd);
}

int e1000stack_poll(int host, struct pollfd *fds, nfds_t count, int timeout_ms)
{
    return (int)CALL("poll", host, AT(fds), (int64_t)count, timeout_ms);
}

int e1000stack_epoll_create(int host)
{
    return (int)CALL("epoll_create", host);
}

int e1000stack_epoll_ctl(int host, int epfd, int op, int fd, struct epoll_event *event)
{
    return (int)CALL("epoll_ctl", host, epfd, op, fd, AT(event));
}

int e1000stack_epoll_wait(int host, int epfd, struct epoll_event *events, int count,
                          int timeout_ms)
{
    return (int)CALL("epoll_wait", host, epfd, AT(events), count, timeout_ms);
}
