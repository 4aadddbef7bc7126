# cython: language_level=3, embedsignature=True
"""System calls of other programs, answered here: Linux's seccomp user notification.

A program whose filter says SECCOMP_RET_USER_NOTIF for a call stops in it until the holder of the
filter's listener answers (seccomp_unotify(2)). This module moves what crosses that border: the
calls, the memory that they point to, descriptors, answers. It knows no call by its meaning.

Everything that comes from the program is hostile: addresses and lengths are used only by
process_vm_readv(2) and process_vm_writev(2), which fail where there is no memory.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.errno cimport EFAULT, EINTR, EINVAL, ENOENT, errno
from posix.unistd cimport close
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

import os
from collections import deque

from fastpath.errors import ArgumentError

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <poll.h>
    #include <sched.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <linux/seccomp.h>
    #include <sys/ioctl.h>
    #include <sys/socket.h>
    #include <sys/stat.h>
    #include <sys/syscall.h>
    #include <sys/uio.h>
    #endif
    #if defined(__linux__) && defined(SECCOMP_ADDFD_FLAG_SEND) && defined(SYS_process_vm_readv)
    #define E1K_SECCOMP 1
    /* What a program has under a number: /proc says it for any thread. */
    static int64_t e1k_fd_flags(int tid, unsigned number)
    {
        char path[48], text[256];
        const char *at;
        ssize_t n;
        int fd;
        snprintf(path, sizeof path, "/proc/%d/fdinfo/%u", tid, number);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return -1;
        n = read(fd, text, sizeof text - 1);
        close(fd);
        if (n < 0)
            return -1;
        text[n] = 0;
        at = strstr(text, "flags:");
        return at ? strtoll(at + 6, NULL, 8) : -1;
    }
    /* Descriptors that stand for threads, so that not every question opens one: that of
       /proc/TID/fd, and a pidfd. A thread that is gone answers ESRCH or ENOENT, also when its
       number is another's by now. */
    #define E1K_THREADS 4
    typedef struct { int tid, dir, pidfd; } e1k_thread;
    static void e1k_forget(e1k_thread *t)
    {
        if (t->dir >= 0)
            close(t->dir);
        if (t->pidfd >= 0)
            close(t->pidfd);
        t->tid = t->dir = t->pidfd = -1;
    }
    static e1k_thread *e1k_find(e1k_thread *threads, int tid)
    {
        e1k_thread *t = threads + (unsigned)tid % E1K_THREADS;
        if (t->tid != tid) {
            e1k_forget(t);
            t->tid = tid;
        }
        return t;
    }
    static int64_t e1k_inode(e1k_thread *threads, int tid, unsigned number)
    {
        char path[48], name[48], at[16];
        e1k_thread *t = e1k_find(threads, tid);
        int known = t->dir >= 0;
        ssize_t n;
        snprintf(at, sizeof at, "%u", number);
        for (;; known = 0) {
            if (!known) {
                e1k_forget(t);
                t->tid = tid;
                snprintf(path, sizeof path, "/proc/%d/fd", tid);
                t->dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (t->dir < 0) {
                    snprintf(path, sizeof path, "/proc/%d/fd/%u", tid, number);
                    n = readlink(path, name, sizeof name - 1);
                    break;
                }
            }
            n = readlinkat(t->dir, at, name, sizeof name - 1);
            if (n >= 0 || !known)
                break;
        }
        if (n < 8 || memcmp(name, "socket:[", 8))
            return -1;
        name[n] = 0;
        return strtoll(name + 8, NULL, 10);
    }
    /* Linux 6.6: the program runs on at once, on the processor of who answers. */
    #ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
    #define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, uint64_t)
    #endif
    #ifndef SYS_pidfd_getfd
    #define SYS_pidfd_getfd 438
    #endif
    #ifndef SYS_pidfd_open
    #define SYS_pidfd_open 434
    #endif
    typedef struct seccomp_notif e1k_notif;
    static int e1k_notif_recv(int fd, e1k_notif *n)
    {
        memset(n, 0, sizeof *n);
        return ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, n);
    }
    static int e1k_notif_send(int fd, uint64_t id, int64_t value, int error, uint32_t flags)
    {
        struct seccomp_notif_resp r;
        memset(&r, 0, sizeof r);
        r.id = id;
        r.val = value;
        r.error = error;
        r.flags = flags;
        return ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r);
    }
    static int e1k_notif_valid(int fd, uint64_t id)
    {
        return ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
    }
    static int e1k_notif_addfd(int fd, uint64_t id, int src, uint32_t flags, uint32_t fd_flags,
                               uint32_t number)
    {
        struct seccomp_notif_addfd a;
        memset(&a, 0, sizeof a);
        a.id = id;
        a.flags = flags;
        a.srcfd = (uint32_t)src;
        a.newfd_flags = fd_flags;
        a.newfd = number;
        return ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a);
    }
    static int e1k_notif_sync(int fd)
    {
        return ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, (uint64_t)1);
    }
    static int64_t e1k_vm(int write, int tid, uint64_t addr, const struct iovec *here, long parts,
                          uint64_t n)
    {
        struct iovec there = {(void *)(uintptr_t)addr, n};
        return syscall(write ? SYS_process_vm_writev : SYS_process_vm_readv, tid, here, parts,
                       &there, 1L, 0L);
    }
    static int e1k_pidfd(int tid)
    {
        /* Of any thread since Linux 6.9 (PIDFD_THREAD), before of a process's first. */
        int pidfd = (int)syscall(SYS_pidfd_open, tid, O_EXCL);
        if (pidfd < 0 && errno == EINVAL)
            pidfd = (int)syscall(SYS_pidfd_open, tid, 0);
        return pidfd;
    }
    static int e1k_getfd(int pid, int number)
    {
        int fd = -1, pidfd = e1k_pidfd(pid);
        if (pidfd >= 0) {
            int why;
            fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
            why = errno;
            close(pidfd);
            errno = why;
        }
        return fd;
    }
    /* The program's socket with this inode; -1: there is none, or it cannot be had. Only sockets
       are looked at so, for to close a copy of a file may write it back (NFS, FUSE). */
    static int e1k_end(e1k_thread *threads, int tid, int number, uint64_t inode)
    {
        e1k_thread *t = e1k_find(threads, tid);
        struct stat st;
        int fd;
        if (t->pidfd < 0)
            t->pidfd = e1k_pidfd(tid);
        if (t->pidfd < 0)
            return -1;
        fd = (int)syscall(SYS_pidfd_getfd, t->pidfd, number, 0);
        if (fd >= 0 && (fstat(fd, &st) || (uint64_t)st.st_ino != inode)) {
            close(fd);
            fd = -1;
        }
        if (fd < 0)
            e1k_forget(t);
        return fd;
    }
    static int e1k_drain(e1k_thread *threads, int tid, int number, uint64_t inode)
    {
        char data[4096];
        int fd = e1k_end(threads, tid, number, inode);
        if (fd < 0)
            return 0;
        while (recv(fd, data, sizeof data, MSG_DONTWAIT) == (ssize_t)sizeof data)
            ;
        close(fd);
        return 1;
    }
    /* A thread by its files in /proc, which stay open; -1: they are opened for each look. */
    typedef struct { int tid, counted, stat, schedstat; char state, ran[96]; } e1k_task;
    static int e1k_open_proc(int tid, const char *name)
    {
        char path[48];
        snprintf(path, sizeof path, "/proc/%d/task/%d/%s", tid, tid, name);
        return open(path, O_RDONLY | O_CLOEXEC);
    }
    static int e1k_read_proc(int fd, int tid, const char *name, char *text, size_t room)
    {
        int opened = fd < 0 ? e1k_open_proc(tid, name) : fd;
        ssize_t n = opened < 0 ? -1 : pread(opened, text, room - 1, 0);
        if (fd < 0 && opened >= 0)
            close(opened);
        text[n > 0 ? n : 0] = 0;
        return n > 0;
    }
    /* How often it was switched, where the kernel does not count how long it ran. */
    static void e1k_switches(int tid, char *ran, size_t room)
    {
        char text[8192], *at;
        *ran = 0;
        if (!e1k_read_proc(-1, tid, "status", text, sizeof text))
            return;
        at = strstr(text, "\\nvoluntary_ctxt_switches:");
        if (at)
            snprintf(ran, room, "%s", at + 25);
    }
    static int e1k_look(e1k_task *t)
    {
        char text[128], ran[sizeof t->ran], call[8], state = 0;
        const char *at;
        int same;
        if (e1k_read_proc(t->stat, t->tid, "stat", text, sizeof text) &&
            (at = strrchr(text, ')')) && at[1] == ' ')
            state = at[2];
        else {
            t->state = *t->ran = 0;
            return 0;
        }
        if (!t->counted ||
            !e1k_read_proc(t->schedstat, t->tid, "schedstat", ran, sizeof ran) ||
            !strcmp(ran, "0 0 0\\n"))
            e1k_switches(t->tid, ran, sizeof ran);
        else if (state == t->state && !strcmp(ran, t->ran))
            return 1;
        if ((state == 'S' || state == 'D') &&
            e1k_read_proc(-1, t->tid, "syscall", call, sizeof call) && !strcmp(call, "running")) {
            state = 'R';
            *ran = 0;
        }
        same = state == t->state && !strcmp(ran, t->ran);
        t->state = state;
        memcpy(t->ran, ran, sizeof ran);
        return same;
    }
    #else
    #define E1K_SECCOMP 0
    #define E1K_THREADS 1
    typedef struct { int tid, dir, pidfd; } e1k_thread;
    static void e1k_forget(e1k_thread *t) { (void)t; }
    static int64_t e1k_inode(e1k_thread *t, int tid, unsigned number)
    { (void)t, (void)tid, (void)number; return -1; }
    static int e1k_end(e1k_thread *t, int tid, int number, uint64_t inode)
    { (void)t, (void)tid, (void)number, (void)inode; return -1; }
    static int e1k_drain(e1k_thread *t, int tid, int number, uint64_t inode)
    { (void)t, (void)tid, (void)number, (void)inode; return 0; }
    static int64_t e1k_fd_flags(int tid, unsigned number) { (void)tid, (void)number; return -1; }
    typedef struct { int tid, counted, stat, schedstat; char state, ran[96]; } e1k_task;
    static int e1k_open_proc(int tid, const char *name) { (void)tid, (void)name; return -1; }
    static int e1k_look(e1k_task *t) { (void)t; return 0; }
    #define SECCOMP_USER_NOTIF_FLAG_CONTINUE 1
    #define SECCOMP_ADDFD_FLAG_SETFD 1
    #define SECCOMP_ADDFD_FLAG_SEND 2
    typedef struct {
        uint64_t id;
        uint32_t pid;
        struct { int nr; uint64_t args[6]; } data;
    } e1k_notif;
    static int e1k_notif_recv(int fd, e1k_notif *n)
    { (void)fd, (void)n; errno = ENOSYS; return -1; }
    static int e1k_notif_send(int fd, uint64_t id, int64_t value, int error, uint32_t flags)
    { (void)fd, (void)id, (void)value, (void)error, (void)flags; errno = ENOSYS; return -1; }
    static int e1k_notif_valid(int fd, uint64_t id) { (void)fd, (void)id; return 0; }
    static int e1k_notif_addfd(int fd, uint64_t id, int src, uint32_t flags, uint32_t fd_flags,
                               uint32_t number)
    { (void)fd, (void)id, (void)src, (void)flags, (void)fd_flags, (void)number; errno = ENOSYS;
      return -1; }
    static int e1k_notif_sync(int fd) { (void)fd; errno = ENOSYS; return -1; }
    static int64_t e1k_vm(int write, int tid, uint64_t addr, const struct iovec *here, long parts,
                          uint64_t n)
    { (void)write, (void)tid, (void)addr, (void)here, (void)parts, (void)n; errno = ENOSYS;
      return -1; }
    static int e1k_getfd(int pid, int number)
    { (void)pid, (void)number; errno = ENOSYS; return -1; }
    #endif
    """
    const bint E1K_SECCOMP
    enum: E1K_THREADS
    ctypedef struct e1k_thread:
        int tid, dir, pidfd
    void e1k_forget(e1k_thread *thread) nogil
    int64_t e1k_inode(e1k_thread *threads, int tid, unsigned number) nogil
    int e1k_end(e1k_thread *threads, int tid, int number, uint64_t inode) nogil
    bint e1k_drain(e1k_thread *threads, int tid, int number, uint64_t inode) nogil
    int F_GETFL
    int fcntl(int fd, int what) nogil
    const short POLLIN, POLLHUP
    struct pollfd:
        int fd
        short events, revents
    int sched_yield() nogil
    int poll(pollfd *fds, unsigned long count, int timeout) nogil
    int64_t e1k_fd_flags(int tid, unsigned number) nogil
    const uint32_t SECCOMP_USER_NOTIF_FLAG_CONTINUE, SECCOMP_ADDFD_FLAG_SEND
    const uint32_t SECCOMP_ADDFD_FLAG_SETFD
    ctypedef struct e1k_notif_data "struct seccomp_data":
        int32_t nr
        uint64_t args[6]
    ctypedef struct e1k_notif:
        uint64_t id
        uint32_t pid
        e1k_notif_data data
    int e1k_notif_recv(int fd, e1k_notif *n) nogil
    int e1k_notif_send(int fd, uint64_t id, int64_t value, int error, uint32_t flags) nogil
    bint e1k_notif_valid(int fd, uint64_t id) nogil
    int e1k_notif_addfd(int fd, uint64_t id, int src, uint32_t flags, uint32_t fd_flags,
                        uint32_t number) nogil
    int e1k_notif_sync(int fd) nogil
    int64_t e1k_vm(bint write, int tid, uint64_t addr, const iovec *here, long parts,
                   uint64_t n) nogil
    int e1k_getfd(int pid, int number) nogil
    ctypedef struct e1k_task:
        int tid, counted, stat, schedstat
        char state
        char ran[96]
    int e1k_open_proc(int tid, const char *name) nogil
    bint e1k_look(e1k_task *task) nogil


def available():
    """Whether this module was built for a system that has all of it (Linux 5.14)."""
    return bool(E1K_SECCOMP)


cdef int failed() except -1:
    raise OSError(errno, os.strerror(errno))


cdef class Listener:
    """The calls that wait for an answer, of one filter. Takes over the descriptor `fd`."""

    cdef readonly int fd
    cdef readonly bint ended
    """Whether `next` has found that no process has the filter any more."""
    cdef readonly bint beside
    """Whether the other descriptor of `next` was readable when the call was found."""
    cdef e1k_thread threads[E1K_THREADS]
    cdef object taken
    """Calls that `take` has received, for `next`."""

    def __cinit__(self):
        self.fd = -1
        self.taken = deque()
        for i in range(E1K_THREADS):
            self.threads[i].tid = self.threads[i].dir = self.threads[i].pidfd = -1

    def __init__(self, int fd):
        self.fd = fd
        e1k_notif_sync(fd)      # older kernels wake the program a little later

    def __dealloc__(self):
        self.forget_threads()
        if self.fd >= 0:
            close(self.fd)

    cpdef forget_threads(self):
        """Give back the descriptors that stand for threads."""
        for i in range(E1K_THREADS):
            e1k_forget(&self.threads[i])

    def fileno(self):
        """The listener's descriptor, which is readable when a call waits; -1 when closed."""
        return self.fd

    def close(self):
        """From now on the calls fail with ENOSYS. Safe to call twice."""
        self.forget_threads()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def next(self, int other=-1):
        """Return a call that waits, as `recv` does; None: none waits, or nobody is left (`ended`).

        `beside` says whether the descriptor `other` is readable, which is looked at after the
        listener. So what the thread has done before its call can be seen there.

        Who was answered last is ready to run on this processor. It gets it for once, since its next
        call often comes at once, and to sleep and wake costs more. Raises: OSError.
        """
        cdef pollfd look[2]
        cdef int found
        look[0].fd = self.fd
        look[1].fd = other
        cdef bint waits = len(self.taken) > 0
        look[0].events = look[1].events = POLLIN
        while True:
            look[0].revents = look[1].revents = 0
            with nogil:
                found = poll(look, 2, 0)
                if not waits and (found <= 0 or not look[0].revents):
                    sched_yield()
                    found = poll(look, 2, 0)
            self.beside = found > 0 and look[1].revents != 0
            if self.taken:
                return self.taken.popleft()
            if found <= 0 or not look[0].revents:
                return None
            if not look[0].revents & POLLIN:
                self.ended = look[0].revents & POLLHUP != 0
                return None
            call = self.recv()
            if call is not None:
                return call

    def take(self):
        """Receive the calls that wait now; `next` returns them. Whether there are any.

        A signal interrupts a thread in a call only until that was received, though Linux has most
        calls go on. So this comes before another thread runs on, that may end and cause one.
        """
        cdef pollfd look
        cdef int found
        look.fd = self.fd
        look.events = POLLIN
        while True:
            look.revents = 0
            with nogil:
                found = poll(&look, 1, 0)
            if found <= 0 or not look.revents & POLLIN:
                return len(self.taken) > 0
            call = self.recv()
            if call is not None:
                self.taken.append(call)

    def recv(self):
        """Return (id, thread, number, six arguments) of a call; None when its thread has ended.

        Waits for one. Raises: OSError.
        """
        cdef e1k_notif n
        cdef int rc
        with nogil:
            rc = e1k_notif_recv(self.fd, &n)
        if rc < 0:
            if errno in (ENOENT, EINTR):
                return None
            failed()
        return n.id, n.pid, n.data.nr, (
            n.data.args[0], n.data.args[1], n.data.args[2], n.data.args[3], n.data.args[4],
            n.data.args[5])

    def valid(self, uint64_t call_id):
        """Whether the call still waits: its thread has not been killed."""
        return e1k_notif_valid(self.fd, call_id)

    def answer(self, uint64_t call_id, int64_t value, int error=0):
        """Let the call return `value`, or fail with `error`. False: nobody waits for it now."""
        return e1k_notif_send(self.fd, call_id, value, -error, 0) == 0

    def go_on(self, uint64_t call_id):
        """Let the kernel do the call. False: nobody waits for it now."""
        return e1k_notif_send(self.fd, call_id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE) == 0

    def answer_fd(self, uint64_t call_id, int fd, uint32_t flags=0):
        """Put `fd` into the program's table and let the call return its number there.

        `flags`: O_CLOEXEC or 0. Raises: OSError EMFILE; ENOENT: nobody waits for it now.
        """
        cdef int number = e1k_notif_addfd(self.fd, call_id, fd, SECCOMP_ADDFD_FLAG_SEND, flags, 0)
        if number < 0:
            failed()
        return number

    def put_fd(self, uint64_t call_id, int fd, uint32_t number, uint32_t flags=0):
        """Put `fd` into the program's table under `number`, in place of what is there.

        The call waits on. `flags`: O_CLOEXEC or 0. Raises: OSError EBADF, ENOENT.
        """
        if e1k_notif_addfd(self.fd, call_id, fd, SECCOMP_ADDFD_FLAG_SETFD, flags, number) < 0:
            failed()

    def inode(self, int tid, unsigned int number):
        """Return the inode of the socket under a thread's number; -1: there is none."""
        return e1k_inode(self.threads, tid, number)

    def status(self, int tid, int number, uint64_t inode):
        """Return the status flags (O_NONBLOCK) of the socket with this inode under a number.

        -1: it is not there, or cannot be looked at.
        """
        cdef int flags, fd = e1k_end(self.threads, tid, number, inode)
        if fd < 0:
            return -1
        flags = fcntl(fd, F_GETFL)
        close(fd)
        return flags

    def drain(self, int tid, int number, uint64_t inode):
        """Take what waits in the socket with this inode under a number. False: it is not there."""
        return e1k_drain(self.threads, tid, number, inode)


cdef class Task:
    """A thread of another process, and what /proc tells of it.

    With `keep` the files stay open: two descriptors. Where the kernel does not count how long
    threads have run (CONFIG_SCHED_INFO), or without `counted`, the number of switches tells it.
    """

    cdef e1k_task task

    def __cinit__(self):
        self.task.stat = self.task.schedstat = -1

    def __init__(self, int tid, bint keep=True, bint counted=True):
        self.shut()
        self.task.tid = tid
        self.task.counted = counted
        self.task.state = self.task.ran[0] = 0
        if keep:
            self.task.stat = e1k_open_proc(tid, b"stat")
            self.task.schedstat = e1k_open_proc(tid, b"schedstat")

    def __dealloc__(self):
        self.shut()

    @property
    def tid(self):
        """The thread's number."""
        return self.task.tid

    @property
    def state(self):
        """What `look` has found: a letter as in ps(1), but "R" as long as the thread is on a
        processor; "" when it has ended."""
        return chr(self.task.state) if self.task.state else ""

    def look(self):
        """Read `state`. Whether it is as before, and the thread has not run since the last look.

        First the state, which is "R" once the thread is woken, then how long it has run. It has a
        sleeper's state before it leaves the processor, and in wait4(2) before it looks for
        children. So one that has run is seen asleep when it is on no processor, either
        (task_current_syscall of lib/syscall.c).
        """
        return e1k_look(&self.task)

    def close(self):
        """Close the files. Safe to call twice."""
        self.shut()

    cdef void shut(self):
        if self.task.stat >= 0:
            close(self.task.stat)
        if self.task.schedstat >= 0:
            close(self.task.schedstat)
        self.task.stat = self.task.schedstat = -1


def fd_flags(int tid, unsigned int number):
    """Return the flags of a thread's descriptor, FD_CLOEXEC as O_CLOEXEC; -1: there is none."""
    return e1k_fd_flags(tid, number)


cdef int move_memory(bint write, int tid, uint64_t addr, const iovec *here, int parts,
                     int64_t n) noexcept nogil:
    cdef int64_t done = e1k_vm(write, tid, addr, here, parts, n)
    if done == n:
        return 0
    return errno if done < 0 else EFAULT


cdef int move(bint write, int tid, uint64_t addr, void *here, int64_t n) except -1:
    cdef iovec part
    cdef int error
    part.iov_base = here
    part.iov_len = n
    error = move_memory(write, tid, addr, &part, 1, n) if n else 0
    if error:
        raise OSError(error, f"memory of {tid} at {addr:#x}")
    return 0


cdef class UserBuffer:
    """`size` bytes at `addr` of the memory of thread `tid`'s process (the kernel's ITER_UBUF).

    To be given instead of a buffer to functions that copy to and from an sk_buff. Whether the
    memory is there is found out by who copies.
    """

    def __init__(self, int tid, uint64_t addr, int64_t size):
        if size < 0:
            raise ArgumentError(f"UserBuffer: {size} bytes")
        self.tid = tid
        self.addr = addr
        self.size = size

    def __len__(self):
        return self.size


def read_memory(int tid, uint64_t addr, int64_t count):
    """Return `count` bytes of a program's memory. Raises: OSError EFAULT. ArgumentError."""
    if not 0 <= count <= 1 << 30:
        raise ArgumentError(f"read_memory: {count} bytes; give 0 to 2**30")
    data = bytearray(count)
    move(False, tid, addr, PyByteArray_AS_STRING(data), count)
    return data


def write_memory(int tid, uint64_t addr, data):
    """Write the buffer `data` to a program's memory. Raises: OSError EFAULT."""
    cdef Py_buffer view     # a memoryview of Cython's takes longer
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        move(True, tid, addr, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


def get_fd(int tid, int number):
    """Return a descriptor of this process for descriptor `number` of a thread (pidfd_getfd(2)).

    Raises: OSError EBADF, ESRCH, EPERM.
    """
    cdef int fd = e1k_getfd(tid, number)
    if fd < 0 and errno == EINVAL:      # an older Linux, and not a process's first thread
        with open(f"/proc/{tid}/status", "rb") as status:
            leader = next(int(line[5:]) for line in status if line.startswith(b"Tgid:"))
        fd = e1k_getfd(leader, number)
    if fd < 0:
        failed()
    return fd
