/* SPDX-License-Identifier: Apache-2.0
 *
 * e1000stack: hosts with a Linux-shaped network stack, for programs that have a scheduler of their
 * own. Link with libe1000stack.so; `e1000emu capi --stack --out DIR` makes both and prints the flags.
 *
 *     int clock = e1000stack_clock(0);
 *     int a = e1000stack_host(clock, "a"), b = e1000stack_host(clock, "b");
 *     e1000stack_link(a, "eth0", b, "eth0", NULL);
 *     e1000stack_addr(a, "eth0", "10.0.0.1/24");
 *     int fd = e1000stack_socket(a, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
 *     while (e1000stack_next(clock, &when) == 0 && when < end)
 *         e1000stack_run_until(clock, when);
 *
 * ERRORS. A function returns -1 and sets errno, as Linux would for the call of that name;
 * e1000stack_last_error() has a sentence about it, unless the call would only have had to wait. Clocks,
 * hosts and devices are numbers from 1 on: one that was closed or never made is EBADF. A pointer that
 * cannot be read or written is EFAULT. ENOSYS: Python does not start, and the text says why.
 *
 * TIME is virtual, in ns: it moves in e1000stack_run_until, and in a call that waits. A socket without
 * O_NONBLOCK lets time pass until its call is done; EDEADLK when nothing is left that could end the
 * wait. The same calls give the same run, byte for byte. On a clock of e1000stack_callback_clock time
 * is the program's, and no call waits: EDEADLK at once.
 *
 * DESCRIPTORS belong to the host that made them. They are not the process's.
 *
 * THREADS. Any thread may make any call; the library serves one at a time.
 */
#ifndef E1000STACK_H
#define E1000STACK_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define E1000STACK_API __attribute__((visibility("default")))

/* A sentence about the last error of this thread; never NULL. */
E1000STACK_API const char *e1000stack_last_error(void);
/* The version of the package, and of its Python. */
E1000STACK_API const char *e1000stack_version(void);

/* --- time ----------------------------------------------------------------------------------------- */

/* Make a clock that shows `start_ns`. */
E1000STACK_API int e1000stack_clock(uint64_t start_ns);
/* The clock of a simulator. Both functions may be called in every call of the library that is about
 * this clock, with `data`, by the thread that makes the call. Neither may call the library. */
struct e1000stack_time {
    /* The time in ns, which never goes back. */
    uint64_t (*now)(void *data);
    /* e1000stack_run is to be called at `when_ns`, and no longer when the last call of this function
     * said; UINT64_MAX: nothing is due. An earlier call, or one too many, does no harm. */
    void (*due)(void *data, uint64_t when_ns);
    void *data;
};
/* Make a clock that shows the program's time. `time` is copied. */
E1000STACK_API int e1000stack_callback_clock(const struct e1000stack_time *time);
/* Run what is due by the program's time. Other calls do so as well before they begin. */
E1000STACK_API int e1000stack_run(int clock);
/* Close a clock and its hosts. */
E1000STACK_API int e1000stack_clock_close(int clock);
E1000STACK_API int e1000stack_now(int clock, uint64_t *now_ns);
/* When the next timer or packet is due; ENOENT: nothing is. */
E1000STACK_API int e1000stack_next(int clock, uint64_t *when_ns);
/* Run what is due until then, and set the time to it. EINVAL: the time is the program's. */
E1000STACK_API int e1000stack_run_until(int clock, uint64_t when_ns);

/* --- hosts and what they are connected to --------------------------------------------------------- */

/* Make a host. Its random choices follow from its name. */
E1000STACK_API int e1000stack_host(int clock, const char *name);
E1000STACK_API int e1000stack_host_close(int host);
/* Set a knob by Linux's name, such as "net.ipv4.tcp_timestamps" or "tcp_timestamps". */
E1000STACK_API int e1000stack_sysctl(int host, const char *name, const char *value);

/* Begin with zeros: no delay, no limit, no loss, an MTU of 1500. */
struct e1000stack_link {
    uint64_t delay_ns;
    uint64_t rate_bps;
    double loss; /* share of the frames that are lost, each way: 0 to 1 */
    uint32_t seed; /* of the losses */
    uint32_t mtu;
};

/* Connect two hosts of one clock by an interface each. NULL: all zeros. */
E1000STACK_API int e1000stack_link(int a, const char *name_a, int b, const char *name_b,
                                   const struct e1000stack_link *options);
/* Make an interface of which the program takes and gives IP packets; returns it. `mtu` 0: 1500. */
E1000STACK_API int e1000stack_tun(int host, const char *name, unsigned mtu);
/* Give the host a packet, which begins with its IP header. */
E1000STACK_API int e1000stack_tun_send(int tun, const void *packet, size_t bytes);
/* Take the oldest packet that the host has sent, and the time of that: its bytes. EAGAIN: there is
 * none. EMSGSIZE: there is no room for it, and it stays. `when_ns` may be NULL. */
E1000STACK_API ssize_t e1000stack_tun_receive(int tun, void *packet, size_t room, uint64_t *when_ns);
/* Add an address with its prefix length, such as "10.0.0.1/24" or "2001:db8::1/64". One of IPv6 can be
 * used after duplicate address detection: a second or two, or at once on a tun. */
E1000STACK_API int e1000stack_addr(int host, const char *name, const char *address);
/* Add a route to "10.1.0.0/16", "::/0" ... by a gateway, an interface, or both; the other is NULL. */
E1000STACK_API int e1000stack_route(int host, const char *prefix, const char *via, const char *name);

/* --- the calls of Linux, each on a host ----------------------------------------------------------- */

E1000STACK_API int e1000stack_socket(int host, int domain, int type, int protocol);
E1000STACK_API int e1000stack_bind(int host, int fd, const struct sockaddr *addr, socklen_t bytes);
E1000STACK_API int e1000stack_listen(int host, int fd, int backlog);
E1000STACK_API int e1000stack_accept4(int host, int fd, struct sockaddr *addr, socklen_t *bytes,
                                      int flags);
E1000STACK_API int e1000stack_connect(int host, int fd, const struct sockaddr *addr,
                                      socklen_t bytes);
E1000STACK_API int e1000stack_getsockname(int host, int fd, struct sockaddr *addr,
                                          socklen_t *bytes);
E1000STACK_API int e1000stack_getpeername(int host, int fd, struct sockaddr *addr,
                                          socklen_t *bytes);
E1000STACK_API ssize_t e1000stack_read(int host, int fd, void *data, size_t bytes);
E1000STACK_API ssize_t e1000stack_readv(int host, int fd, const struct iovec *iov, int count);
E1000STACK_API ssize_t e1000stack_recvfrom(int host, int fd, void *data, size_t bytes, int flags,
                                           struct sockaddr *addr, socklen_t *addr_bytes);
E1000STACK_API ssize_t e1000stack_recvmsg(int host, int fd, struct msghdr *message, int flags);
E1000STACK_API ssize_t e1000stack_write(int host, int fd, const void *data, size_t bytes);
E1000STACK_API ssize_t e1000stack_writev(int host, int fd, const struct iovec *iov, int count);
E1000STACK_API ssize_t e1000stack_sendto(int host, int fd, const void *data, size_t bytes, int flags,
                                         const struct sockaddr *addr, socklen_t addr_bytes);
/* As of sendto, no SIGPIPE is raised by any call: EPIPE is returned. */
E1000STACK_API ssize_t e1000stack_sendmsg(int host, int fd, const struct msghdr *message, int flags);
E1000STACK_API int e1000stack_getsockopt(int host, int fd, int level, int name, void *value,
                                         socklen_t *bytes);
E1000STACK_API int e1000stack_setsockopt(int host, int fd, int level, int name, const void *value,
                                         socklen_t bytes);
/* F_GETFL and F_SETFL, and what else takes a number. */
E1000STACK_API int e1000stack_fcntl(int host, int fd, int command, long value);
E1000STACK_API int e1000stack_ioctl(int host, int fd, unsigned long request, void *value);
E1000STACK_API int e1000stack_shutdown(int host, int fd, int how);
E1000STACK_API int e1000stack_close(int host, int fd);
/* A timeout, in ms of the clock, lets time pass; 0 does not, and below 0 there is no end. */
E1000STACK_API int e1000stack_poll(int host, struct pollfd *fds, nfds_t count, int timeout_ms);
E1000STACK_API int e1000stack_epoll_create(int host);
E1000STACK_API int e1000stack_epoll_ctl(int host, int epfd, int op, int fd,
                                        struct epoll_event *event);
E1000STACK_API int e1000stack_epoll_wait(int host, int epfd, struct epoll_event *events, int count,
                                         int timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
