/* SPDX-License-Identifier: Apache-2.0
 *
 * The table that packetdrill fills in its mode for shared objects. One host, whose one interface is a
 * tun that packetdrill reads and writes; time is virtual (packetdrill.py).
 *
 * The library is preloaded, too. packetdrill asks libc's getsockopt for TCP_INFO, past the table, and
 * calls its sendfile. So these are here, too, and know which descriptors are the host's. Its system is
 * here for scripts whose commands are the host's programs.
 */
#define _GNU_SOURCE /* dladdr, RTLD_NEXT */
#include "call.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))
#define MOST_FDS 65536

/* Which descriptors of the process stand for the host's. */
static unsigned char mine[MOST_FDS];

/* Whether a script's commands are the host's programs. */
static int commands;

static int keep(int fd)
{
    if (fd >= 0 && fd < MOST_FDS)
        mine[fd] = 1;
    return fd;
}

static int is_mine(int fd)
{
    return fd >= 0 && fd < MOST_FDS && mine[fd];
}

/* In a fork, before packetdrill's main: a namespace of its own and a script's arguments instead of ours.
 * `line` has, with tabs between: the directory, the file for the standard error, a shell command,
 * and as many arguments as this process was started with. */
static void become(char *line, int argc, char **argv, unsigned limit_s)
{
    char *directory = strsep(&line, "\t"), *errors = strsep(&line, "\t"), *before = strsep(&line, "\t");
    int null, file;
    for (int at = 1; at < argc; at++)
        argv[at] = strsep(&line, "\t");
    if (line || !argv[argc - 1]) {
        fprintf(stderr, "e1000packetdrill: a line has a directory, a file, a command and %d arguments\n",
                argc - 1);
        _exit(127);
    }
    null = open("/dev/null", O_RDWR);
    file = open(errors, O_WRONLY | O_TRUNC);
    if (null < 0 || file < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(file, 2) < 0 ||
        chdir(directory) || unshare(CLONE_NEWNET | CLONE_NEWNS) ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
        perror("e1000packetdrill");
        _exit(127);
    }
    close(null);
    close(file);
    if (system(before)) {
        fprintf(stderr, "e1000packetdrill: fails: %s\n", before);
        _exit(127);
    }
    alarm(limit_s);
}

/* Python takes long to start. So one process starts it, and each script runs in a fork of that. A line
 * of the standard input is a script, a line of the standard output its wait status. */
static void serve(int argc, char **argv, unsigned limit_s)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t bytes;
    if (CALL("prepare", 0) < 0) {
        fprintf(stderr, "e1000packetdrill: %s\n", last_error);
        _exit(1);
    }
    while ((bytes = getline(&line, &room, stdin)) > 0) {
        int status;
        pid_t pid = fork();
        line[bytes - 1] = 0;
        if (pid == 0) {
            become(line, argc, argv, limit_s);
            return;
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0) {
            perror("e1000packetdrill");
            _exit(1);
        }
        printf("%d\n", status);
        fflush(stdout);
    }
    _exit(0);
}

/* Programs that packetdrill starts have no need of us. */
__attribute__((constructor)) static void only_here(int argc, char **argv)
{
    const char *limit = getenv("E1000EMU_PACKETDRILL_SERVE"); /* seconds for a script */
    unsetenv("LD_PRELOAD");
    if (limit) {
        unsigned limit_s = (unsigned)atoi(limit);
        unsetenv("E1000EMU_PACKETDRILL_SERVE");
        serve(argc, argv, limit_s);
    }
}

static void pd_free(void *u)
{
    (void)u;
}

static int pd_socket(void *u, int domain, int type, int protocol)
{
    (void)u;
    return keep((int)CALL("socket", domain, type, protocol));
}

static int pd_bind(void *u, int fd, const struct sockaddr *addr, socklen_t bytes)
{
    (void)u;
    return (int)CALL("bind", fd, AT(addr), bytes);
}

static int pd_listen(void *u, int fd, int backlog)
{
    (void)u;
    return (int)CALL("listen", fd, backlog);
}

static int pd_accept(void *u, int fd, struct sockaddr *addr, socklen_t *bytes)
{
    (void)u;
    return keep((int)CALL("accept4", fd, AT(addr), AT(bytes), 0));
}

static int pd_connect(void *u, int fd, const struct sockaddr *addr, socklen_t bytes)
{
    (void)u;
    return (int)CALL("connect", fd, AT(addr), bytes);
}

/* What is not the host's is a file or a pipe of the kernel's. */
static ssize_t pd_read(void *u, int fd, void *data, size_t bytes)
{
    (void)u;
    return is_mine(fd) ? CALL("read", fd, AT(data), (int64_t)bytes) : read(fd, data, bytes);
}

static ssize_t pd_readv(void *u, int fd, const struct iovec *iov, int count)
{
    (void)u;
    return is_mine(fd) ? CALL("readv", fd, AT(iov), count) : readv(fd, iov, count);
}

static ssize_t pd_recvfrom(void *u, int fd, void *data, size_t bytes, int flags,
                           struct sockaddr *addr, socklen_t *addr_bytes)
{
    (void)u;
    return CALL("recvfrom", fd, AT(data), (int64_t)bytes, flags, AT(addr), AT(addr_bytes));
}

static ssize_t pd_recv(void *u, int fd, void *data, size_t bytes, int flags)
{
    return pd_recvfrom(u, fd, data, bytes, flags, NULL, NULL);
}

static ssize_t pd_recvmsg(void *u, int fd, struct msghdr *message, int flags)
{
    (void)u;
    return CALL("recvmsg", fd, AT(message), flags);
}

static ssize_t pd_write(void *u, int fd, const void *data, size_t bytes)
{
    (void)u;
    return is_mine(fd) ? CALL("write", fd, AT(data), (int64_t)bytes) : write(fd, data, bytes);
}

static ssize_t pd_writev(void *u, int fd, const struct iovec *iov, int count)
{
    (void)u;
    return is_mine(fd) ? CALL("writev", fd, AT(iov), count) : writev(fd, iov, count);
}

static ssize_t pd_sendto(void *u, int fd, const void *data, size_t bytes, int flags,
                         const struct sockaddr *addr, socklen_t addr_bytes)
{
    (void)u;
    return CALL("sendto", fd, AT(data), (int64_t)bytes, flags, AT(addr), addr_bytes);
}

static ssize_t pd_send(void *u, int fd, const void *data, size_t bytes, int flags)
{
    return pd_sendto(u, fd, data, bytes, flags, NULL, 0);
}

static ssize_t pd_sendmsg(void *u, int fd, const struct msghdr *message, int flags)
{
    (void)u;
    return CALL("sendmsg", fd, AT(message), flags);
}

static int pd_fcntl(void *u, int fd, int command, ...)
{
    va_list args;
    long value;
    (void)u;
    va_start(args, command);
    value = va_arg(args, long);
    va_end(args);
    return is_mine(fd) ? (int)CALL("fcntl", fd, command, value) : fcntl(fd, command, value);
}

static int pd_ioctl(void *u, int fd, unsigned long request, ...)
{
    va_list args;
    void *value;
    (void)u;
    va_start(args, request);
    value = va_arg(args, void *);
    va_end(args);
    return (int)CALL("ioctl", fd, (int64_t)request, AT(value));
}

static int pd_close(void *u, int fd)
{
    (void)u;
    if (!is_mine(fd))
        return close(fd);
    mine[fd] = 0;
    return (int)CALL("close", fd);
}

static int pd_shutdown(void *u, int fd, int how)
{
    (void)u;
    return (int)CALL("shutdown", fd, how);
}

static int pd_getsockopt(void *u, int fd, int level, int name, void *value, socklen_t *bytes)
{
    (void)u;
    return (int)CALL("getsockopt", fd, level, name, AT(value), AT(bytes));
}

static int pd_setsockopt(void *u, int fd, int level, int name, const void *value, socklen_t bytes)
{
    (void)u;
    return (int)CALL("setsockopt", fd, level, name, AT(value), bytes);
}

static int pd_poll(void *u, struct pollfd *fds, nfds_t count, int timeout_ms)
{
    (void)u;
    return (int)CALL("poll", AT(fds), (int64_t)count, timeout_ms);
}

static int pd_netdev_send(void *u, const void *packet, size_t bytes)
{
    (void)u;
    return (int)CALL("netdev_send", AT(packet), (int64_t)bytes);
}

static int pd_netdev_receive(void *u, void *packet, size_t *bytes, long long *time_us)
{
    (void)u;
    return (int)CALL("netdev_receive", AT(packet), AT(bytes), AT(time_us));
}

static int pd_usleep(void *u, useconds_t us)
{
    (void)u;
    return (int)CALL("usleep", us);
}

static int pd_gettimeofday(void *u, struct timeval *now, struct timezone *zone)
{
    int64_t us = CALL("gettimeofday", 0);
    (void)u;
    (void)zone;
    if (us < 0)
        return -1;
    now->tv_sec = us / 1000000;
    now->tv_usec = us % 1000000;
    return 0;
}

static int pd_epoll_create(void *u, int size)
{
    (void)u;
    (void)size;
    return keep((int)CALL("epoll_create", 0));
}

static int pd_epoll_ctl(void *u, int epfd, int op, int fd, struct epoll_event *event)
{
    (void)u;
    return (int)CALL("epoll_ctl", epfd, op, fd, AT(event));
}

static int pd_epoll_wait(void *u, int epfd, struct epoll_event *events, int count, int timeout_ms)
{
    (void)u;
    return (int)CALL("epoll_wait", epfd, AT(events), count, timeout_ms);
}

static int pd_pipe(void *u, int ends[2])
{
    int code = (int)CALL("pipe", AT(ends));
    (void)u;
    if (code == 0) {
        keep(ends[0]);
        keep(ends[1]);
    }
    return code;
}

/* What the offsets point to are the script's arguments, which are addresses themselves: NULL. */
static int pd_splice(void *u, int in, loff_t *in_offset, int out, loff_t *out_offset, size_t bytes,
                     unsigned flags)
{
    (void)u;
    return (int)CALL("splice", in, *in_offset, out, *out_offset, (int64_t)bytes, flags);
}

/* The order is packetdrill's; all but the first are pointers to functions. */
struct table {
    void *userdata;
    void *calls[32];
};

/* libc's function of a name that is one here, too. */
static void next_of(const char *name, void *function)
{
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(function, &found, sizeof found);
}

SHOWN int system(const char *command)
{
    static int (*next)(const char *);
    if (commands && command)
        return (int)CALL("system", AT(command), (int64_t)strlen(command));
    if (!next)
        next_of("system", &next);
    return next(command);
}

SHOWN void packetdrill_interface_init(const char *flags, struct table *table)
{
    void (*const all[])(void) = {
#define F(function) (void (*)(void))(function)
        F(pd_free),          F(pd_socket),    F(pd_bind),         F(pd_listen),
        F(pd_accept),        F(pd_connect),   F(pd_read),         F(pd_readv),
        F(pd_recv),          F(pd_recvfrom),  F(pd_recvmsg),      F(pd_write),
        F(pd_writev),        F(pd_send),      F(pd_sendto),       F(pd_sendmsg),
        F(pd_fcntl),         F(pd_ioctl),     F(pd_close),        F(pd_shutdown),
        F(pd_getsockopt),    F(pd_setsockopt), F(pd_poll),        F(pd_netdev_send),
        F(pd_netdev_receive), F(pd_usleep),   F(pd_gettimeofday), F(pd_epoll_create),
        F(pd_epoll_ctl),     F(pd_epoll_wait), F(pd_pipe),        F(pd_splice),
#undef F
    };
    _Static_assert(sizeof all == sizeof table->calls, "a call is missing");
    table->userdata = NULL;
    memcpy(table->calls, all, sizeof all);
    commands = (int)CALL("init", AT(flags));
    if (commands < 0) {
        fprintf(stderr, "e1000packetdrill: %s\n", last_error);
        _exit(1);
    }
}

/* packetdrill's sendfile is libc's as well; what it sends is a file of the kernel's. Its name is
 * given to the linker, since Python's headers make "sendfile64" of the other. */
SHOWN ssize_t own_sendfile(int out, int in, off_t *offset, size_t bytes) __asm__("sendfile");
SHOWN ssize_t own_sendfile(int out, int in, off_t *offset, size_t bytes)
{
    static ssize_t (*next)(int, int, off_t *, size_t);
    char data[65536];
    ssize_t got, sent;
    if (!is_mine(out)) {
        if (!next)
            next_of("sendfile", &next);
        return next(out, in, offset, bytes);
    }
    if (bytes > sizeof data)
        bytes = sizeof data;
    got = offset ? pread(in, data, bytes, *offset) : read(in, data, bytes);
    sent = got > 0 ? pd_write(NULL, out, data, (size_t)got) : got;
    if (offset && sent > 0)
        *offset += sent;
    return sent;
}

SHOWN int getsockopt(int fd, int level, int name, void *value, socklen_t *bytes)
{
    static int (*next)(int, int, int, void *, socklen_t *);
    if (is_mine(fd))
        return pd_getsockopt(NULL, fd, level, name, value, bytes);
    if (!next)
        next_of("getsockopt", &next);
    return next(fd, level, name, value, bytes);
}

/* Before a script, packetdrill waits for the tenth tick of the kernel's, and has its memory locked. In
 * virtual time neither makes it more exact: each question for the ticks takes one. */
SHOWN clock_t times(struct tms *used)
{
    static clock_t ticks;
    if (used)
        memset(used, 0, sizeof *used);
    return ++ticks;
}

SHOWN int mlockall(int flags)
{
    (void)flags;
    return 0;
}
