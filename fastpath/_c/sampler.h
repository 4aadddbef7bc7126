/* The profiler's signal handler: adds CPU time to the path of functions that a thread is in.
 *
 * A timer of the wall clock (its resolution is microseconds; CPU-time timers of Linux fire on
 * scheduler ticks, 4 ms apart as a rule) sends SIGPROF to one thread. The handler reads that
 * thread's CPU clock and adds the time since the last sample to the path that it finds. A path is
 * the Python functions from the outermost to the innermost, then the compiled functions that run on
 * top of the innermost one. So the samples' times add up to the CPU time that was used, and the
 * handler's own time is measured and left out.
 *
 * The handler may interrupt any code, even the interpreter while it pushes a frame, or the allocator.
 * It therefore allocates nothing, takes no reference, and reads what the interpreter owns through
 * process_vm_readv(2), which answers EFAULT where a load would crash.
 */
#ifndef E1K_SAMPLER_H
#define E1K_SAMPLER_H

#include "pyframe.h"

#include <stdlib.h>
#include <string.h>

/* ---- the tree of paths -------------------------------------------------------------------- */

/* The kind of a node. */
enum { E1K_ROOT = 0, E1K_PYTHON = 1, E1K_NATIVE = 2 };

typedef struct {
    uint64_t key;     /* E1K_PYTHON: number of the code; E1K_NATIVE: address of the function */
    int64_t self_ns;
    uint32_t parent;
    uint32_t samples;
    uint32_t kind;
} e1k_node;

typedef struct {
    e1k_node *node;
    uint32_t *slot;   /* open addressing: number of a node, or 0 */
    uint32_t n;       /* nodes in use; node 0 is the root */
    uint32_t cap;     /* a power of two; there are twice as many slots */
} e1k_tree;

static int e1k_tree_init(e1k_tree *t, uint32_t cap)
{
    t->node = calloc(cap, sizeof *t->node);
    t->slot = calloc((size_t)cap * 2, sizeof *t->slot);
    t->cap = cap;
    t->n = 1;
    return t->node != NULL && t->slot != NULL;
}

static void e1k_tree_free(e1k_tree *t)
{
    free(t->node);
    free(t->slot);
    memset(t, 0, sizeof *t);
}

static inline uint64_t e1k_mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x9E3779B97F4A7C15u;
    return x ^ x >> 29;
}

/* The child of `parent` for (kind, key), made when it is new; 0 when the tree is full. */
static uint32_t e1k_tree_child(e1k_tree *t, uint32_t parent, uint32_t kind, uint64_t key)
{
    uint32_t mask = t->cap * 2 - 1;
    uint32_t at = (uint32_t)e1k_mix(key ^ (uint64_t)parent << 40 ^ (uint64_t)kind << 32) & mask;
    while (t->slot[at]) {
        e1k_node *n = &t->node[t->slot[at]];
        if (n->key == key && n->parent == parent && n->kind == kind)
            return t->slot[at];
        at = (at + 1) & mask;
    }
    if (t->n == t->cap)
        return 0;
    t->node[t->n] = (e1k_node){.key = key, .parent = parent, .kind = kind};
    t->slot[at] = t->n;
    return t->n++;
}

/* ---- the handler -------------------------------------------------------------------------- */

#if defined(__linux__) && E1K_FRAMES
#define E1K_SAMPLER 1

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum {
    E1K_MAX_DEPTH = 200,   /* Python frames of a path; the outermost ones beyond it are left out */
    E1K_MAX_NATIVE = 24,
    E1K_MAX_CODES = 16384,
    E1K_MAX_NODES = 1 << 17,
    E1K_NAME_BYTES = 96,
    E1K_FILE_BYTES = 256,
    E1K_WINDOW_BYTES = 4096 + 256,
};

#define E1K_CODE_BYTES offsetof(PyCodeObject, co_code_adaptive)

/* A code object as it was when first seen. Address and these fields tell it from a later one at the
 * same address. The hash is needed because the later one's name may be at the same address too. */
typedef struct {
    PyObject *code, *name_object, *file_object;
    Py_hash_t name_hash;
    int line;
    char name[E1K_NAME_BYTES];
    char file[E1K_FILE_BYTES];
} e1k_code;

typedef struct e1k_thread {
    struct e1k_thread *next;
    timer_t timer;
    int64_t last_ns;     /* of this thread's CPU clock, when the last sample was done */
    int64_t carry_ns;    /* CPU time since then that was used before a pause */
    int64_t sampled_ns, overhead_ns, lost_ns;
    uint32_t samples, idle;
    volatile uint32_t ticks;
    int armed, paused, slow;
    /* the handler's working memory, so that it needs little stack */
    PyObject *codes[E1K_MAX_DEPTH];
    char window[E1K_WINDOW_BYTES];
    char code_bytes[E1K_MAX_DEPTH][sizeof(PyCodeObject)];
    PyASCIIObject names[E1K_MAX_DEPTH];
    struct iovec here[E1K_MAX_DEPTH], there[E1K_MAX_DEPTH];
    uintptr_t native[E1K_MAX_NATIVE];
} e1k_thread;

static struct {
    atomic_flag busy;
    volatile int running;
    int64_t interval_ns;
    e1k_tree tree;
    e1k_code *code;
    uint32_t *code_slot;
    uint32_t n_codes;
    e1k_thread *threads;
    pthread_mutex_t threads_lock;
    pthread_key_t at_exit;
    int has_key;
    int64_t sampled_ns, overhead_ns, lost_ns;  /* of threads that have ended */
    int64_t interrupt_ns;
    uint64_t samples;
    pid_t pid;
    struct sigaction before;
} e1k_sampler = {.busy = ATOMIC_FLAG_INIT, .threads_lock = PTHREAD_MUTEX_INITIALIZER};

static __thread e1k_thread *e1k_self;

static inline int64_t e1k_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline ssize_t e1k_peek(void *here, const void *there, size_t n)
{
    struct iovec a = {here, n}, b = {(void *)there, n};
    return syscall(SYS_process_vm_readv, e1k_sampler.pid, &a, 1, &b, 1, 0);
}

/* Copy a str of ASCII, its tail when it is longer; anything else gives "?". */
static void e1k_text(char *out, size_t size, PyObject *text)
{
    PyASCIIObject s;
    Py_ssize_t n, skip = 0;
    strcpy(out, "?");
    if (e1k_peek(&s, text, sizeof s) != sizeof s || Py_TYPE(&s) != &PyUnicode_Type)
        return;
    if (!s.state.compact || !s.state.ascii || s.length < 1)
        return;
    n = s.length;
    if (n > (Py_ssize_t)size - 1) {
        skip = n - (Py_ssize_t)(size - 1);
        n = (Py_ssize_t)size - 1;
    }
    if (e1k_peek(out, (char *)text + sizeof s + skip, n) == n)
        out[n] = 0;
    else
        strcpy(out, "?");
}

/* The number of a code object, from its bytes; -1 when it is none. */
static int64_t e1k_code_number(PyObject *code, const PyCodeObject *c, Py_hash_t hash)
{
    uint32_t mask = E1K_MAX_CODES * 2 - 1;
    uint32_t at = (uint32_t)e1k_mix((uintptr_t)code) & mask;
    e1k_code *known;
    if (Py_TYPE((PyObject *)c) != &PyCode_Type)
        return -1;
    while (e1k_sampler.code_slot[at]) {
        known = &e1k_sampler.code[e1k_sampler.code_slot[at]];
        if (known->code == code && known->name_object == c->co_qualname
            && known->file_object == c->co_filename && known->line == c->co_firstlineno
            && known->name_hash == hash)
            return e1k_sampler.code_slot[at];
        at = (at + 1) & mask;
    }
    if (e1k_sampler.n_codes == E1K_MAX_CODES)
        return -1;
    known = &e1k_sampler.code[e1k_sampler.n_codes];
    known->code = code;
    known->name_object = c->co_qualname;
    known->file_object = c->co_filename;
    known->line = c->co_firstlineno;
    known->name_hash = hash;
    e1k_text(known->name, sizeof known->name, c->co_qualname);
    e1k_text(known->file, sizeof known->file, c->co_filename);
    e1k_sampler.code_slot[at] = e1k_sampler.n_codes;
    return e1k_sampler.n_codes++;
}

/* Fill t->codes from the innermost frame outwards; *mark becomes an address in the C frame of the
 * innermost interpreter loop. Returns how many. */
static int e1k_walk(e1k_thread *t, PyThreadState *ts, uintptr_t *mark)
{
    uintptr_t at = (uintptr_t)e1k_current_frame(ts), base = 0;
    size_t have = 0;
    int n = 0, steps = 0;
    *mark = e1k_loop_mark(ts);
    while (at && n < E1K_MAX_DEPTH && steps++ < 2 * E1K_MAX_DEPTH) {
        const e1k_frame *f;
        if (at < base || at + E1K_FRAME_BYTES > base + have) {
            /* Frames lie one after the other, the older ones lower: take the page up to this one. */
            base = at & ~(uintptr_t)4095;
            have = at - base + E1K_FRAME_BYTES;
            if (have > sizeof t->window || e1k_peek(t->window, (void *)base, have) != (ssize_t)have)
                break;
        }
        f = (const e1k_frame *)(t->window + (at - base));
        if (e1k_frame_is_entry(f)) {
            if (!*mark)
                *mark = at;
        } else if (e1k_frame_code(f) != NULL) {
            t->codes[n++] = e1k_frame_code(f);
        }
        at = (uintptr_t)f->previous;
    }
    return n;
}

typedef struct {
    uintptr_t *out;
    uintptr_t pc, mark;
    int n, seen, skip;
} e1k_unwind;

static _Unwind_Reason_Code e1k_step(struct _Unwind_Context *context, void *arg)
{
    e1k_unwind *u = arg;
    uintptr_t ip = _Unwind_GetIP(context);
    if (!u->seen) {
        /* the interrupted function is above the signal's own frames */
        if (u->pc ? ip != u->pc : u->skip-- > 0)
            return _URC_NO_REASON;
        u->seen = 1;
    }
    if (u->mark && (uintptr_t)_Unwind_GetCFA(context) > u->mark)
        return _URC_END_OF_STACK;  /* older than the innermost interpreter loop */
    uintptr_t start = (uintptr_t)_Unwind_GetRegionStart(context);
    u->out[u->n++] = start ? start : ip;
    return u->n < E1K_MAX_NATIVE ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static inline uintptr_t e1k_pc(void *uc)
{
#if defined(__x86_64__)
    return (uintptr_t)((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)((ucontext_t *)uc)->uc_mcontext.pc;
#else
    (void)uc;
    return 0;
#endif
}

/* Read t->there to t->here, n pieces of `size` bytes. What cannot be read stays as it was. */
static void e1k_peek_all(e1k_thread *t, int n, size_t size)
{
    int i = 0;
    while (i < n) {
        ssize_t got = syscall(SYS_process_vm_readv, e1k_sampler.pid, t->here + i, n - i,
                              t->there + i, n - i, 0);
        i += got > 0 ? (int)((size_t)got / size) : 0;
        i += i < n;  /* a bad address ended the call; continue behind it */
    }
}

static void e1k_record(e1k_thread *t, void *uc, int64_t ns)
{
    PyThreadState *ts = PyGILState_GetThisThreadState();
    uintptr_t mark = 0;
    uint32_t node = 0, full = 0;
    int n = ts != NULL ? e1k_walk(t, ts, &mark) : 0, i, k;
    e1k_unwind u = {.out = t->native, .pc = e1k_pc(uc), .mark = mark, .skip = 2};
    _Unwind_Backtrace(e1k_step, &u);
    for (i = 0; i < n; i++) {
        t->here[i] = (struct iovec){t->code_bytes[i], E1K_CODE_BYTES};
        t->there[i] = (struct iovec){t->codes[i], E1K_CODE_BYTES};
        memset(t->code_bytes[i], 0, E1K_CODE_BYTES);
    }
    e1k_peek_all(t, n, E1K_CODE_BYTES);
    for (i = 0; i < n; i++) {
        t->here[i] = (struct iovec){&t->names[i], sizeof t->names[i]};
        t->there[i] = (struct iovec){((PyCodeObject *)t->code_bytes[i])->co_name,
                                     sizeof t->names[i]};
        t->names[i].hash = 0;
    }
    e1k_peek_all(t, n, sizeof t->names[0]);
    for (k = 0; atomic_flag_test_and_set_explicit(&e1k_sampler.busy, memory_order_acquire); k++)
        if (k == 20000) {  /* the lock's holder was preempted */
            t->lost_ns += ns;
            return;
        }
    if (!e1k_sampler.running)
        goto done;
    for (i = n - 1; i >= 0; i--) {
        int64_t code = e1k_code_number(t->codes[i], (const PyCodeObject *)t->code_bytes[i],
                                       t->names[i].hash);
        if (code < 0)
            continue;
        if (!(full = e1k_tree_child(&e1k_sampler.tree, node, E1K_PYTHON, (uint64_t)code)))
            goto out;
        node = full;
    }
    for (i = u.n - 1; i >= 0; i--) {
        if (!(full = e1k_tree_child(&e1k_sampler.tree, node, E1K_NATIVE, t->native[i])))
            goto out;
        node = full;
    }
out:
    /* In a full tree the time counts for the last node of the path that exists. */
    e1k_sampler.tree.node[node].self_ns += ns;
    e1k_sampler.tree.node[node].samples += 1;
    t->sampled_ns += ns;
    t->samples += 1;
done:
    atomic_flag_clear_explicit(&e1k_sampler.busy, memory_order_release);
}

static void e1k_period(e1k_thread *t, int64_t ns)
{
    struct itimerspec every = {{ns / 1000000000, ns % 1000000000}, {ns / 1000000000, ns % 1000000000}};
    timer_settime(t->timer, 0, &every, NULL);
}

static void e1k_on_signal(int number, siginfo_t *info, void *uc)
{
    int error = errno;
    e1k_thread *t = e1k_self;
    (void)number;
    if (t != NULL)
        t->ticks++;
    if (t != NULL && t->armed && !t->paused && e1k_sampler.running) {
        int64_t now = e1k_cpu_ns(), used = now - t->last_ns + t->carry_ns;
        if (info->si_code == SI_TIMER && used < e1k_sampler.interval_ns / 2) {
            /* The thread sleeps or waits for a processor. Do not wake a sleeper a thousand times a second. */
            if (++t->idle == 100) {
                t->slow = 1;
                e1k_period(t, 20 * e1k_sampler.interval_ns);
            }
        } else {
            t->idle = 0;
            if (t->slow) {
                t->slow = 0;
                e1k_period(t, e1k_sampler.interval_ns);
            }
            e1k_record(t, uc, used);
            t->carry_ns = 0;
            t->last_ns = e1k_cpu_ns();
            t->overhead_ns += t->last_ns - now;
        }
    }
    errno = error;
}

static _Unwind_Reason_Code e1k_warm(struct _Unwind_Context *context, void *arg)
{
    (void)context;
    (void)arg;
    return _URC_END_OF_STACK;
}

/* Add a thread's counters to the totals and clear them. */
static void e1k_collect(e1k_thread *t)
{
    e1k_sampler.sampled_ns += t->sampled_ns;
    e1k_sampler.overhead_ns += t->overhead_ns;
    e1k_sampler.lost_ns += t->lost_ns;
    e1k_sampler.samples += t->samples;
    t->sampled_ns = t->overhead_ns = t->lost_ns = t->samples = 0;
}

static void e1k_disarm(e1k_thread *t)
{
    if (t->armed) {
        t->armed = 0;
        timer_delete(t->timer);
        e1k_collect(t);
    }
}

static void e1k_thread_ends(void *arg)
{
    e1k_thread *t = arg, **at;
    e1k_self = NULL;
    pthread_mutex_lock(&e1k_sampler.threads_lock);
    e1k_disarm(t);
    for (at = &e1k_sampler.threads; *at != NULL; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            break;
        }
    pthread_mutex_unlock(&e1k_sampler.threads_lock);
    free(t);
}

/* Let this thread be sampled. Harmless when repeated. Returns 0 or an errno. */
static int e1k_arm(void)
{
    e1k_thread *t = e1k_self;
    struct sigevent event;
    if (t == NULL) {
        if (!(t = calloc(1, sizeof *t)))
            return ENOMEM;
        /* Unwind once here: the first time loads libgcc_s, which a signal handler must not do. */
        _Unwind_Backtrace(e1k_warm, NULL);
        pthread_setspecific(e1k_sampler.at_exit, t);
        pthread_mutex_lock(&e1k_sampler.threads_lock);
        t->next = e1k_sampler.threads;
        e1k_sampler.threads = t;
        pthread_mutex_unlock(&e1k_sampler.threads_lock);
        e1k_self = t;
    }
    if (t->armed)
        return 0;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGPROF;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &event, &t->timer))
        return errno;
    t->carry_ns = t->idle = t->paused = t->slow = 0;
    t->last_ns = e1k_cpu_ns();
    t->armed = 1;
    e1k_period(t, e1k_sampler.interval_ns);
    return 0;
}

static void e1k_pause(void)
{
    e1k_thread *t = e1k_self;
    if (t != NULL && t->armed && !t->paused) {
        t->paused = 1;
        t->carry_ns += e1k_cpu_ns() - t->last_ns;
    }
}

static void e1k_resume(void)
{
    e1k_thread *t = e1k_self;
    if (t != NULL && t->armed && t->paused) {
        t->last_ns = e1k_cpu_ns();
        t->paused = 0;
    }
}

enum { E1K_TRIALS = 9 };

/* The cost of a timer interrupt before and after the handler: the median gap that one
 * leaves in the CPU clock of this thread, which does nothing but read it. */
static int64_t e1k_interrupt_ns(void)
{
    int64_t gap[E1K_TRIALS], before, now, next, wide;
    int n = 0, i;
    e1k_thread *t = e1k_self;
    uint32_t seen;
    if (t == NULL || !t->armed)
        return 0;
    e1k_pause();
    e1k_period(t, 500000);
    seen = t->ticks;
    before = e1k_cpu_ns();
    while (n < E1K_TRIALS) {
        now = e1k_cpu_ns();
        if (t->ticks != seen) {
            /* the signal came before this reading, or between it and the read of the count */
            seen = t->ticks;
            next = e1k_cpu_ns();
            wide = next - now > now - before ? next - now : now - before;
            for (i = n++; i > 0 && gap[i - 1] > wide; i--)
                gap[i] = gap[i - 1];
            gap[i] = wide;
            now = next;
        }
        before = now;
    }
    t->carry_ns = 0;
    e1k_resume();
    e1k_period(t, e1k_sampler.interval_ns);
    return gap[E1K_TRIALS / 2];
}

static void e1k_free(void)
{
    e1k_tree_free(&e1k_sampler.tree);
    free(e1k_sampler.code);
    free(e1k_sampler.code_slot);
    e1k_sampler.code = NULL;
    e1k_sampler.code_slot = NULL;
}

/* Make room and take the signal. Returns 0 or an errno. */
static int e1k_start(int64_t interval_ns)
{
    struct sigaction action, before;
    char probe = 1, got = 0;
    int error;
    e1k_sampler.pid = getpid();
    if (e1k_peek(&got, &probe, 1) != 1)
        return errno;
    if (!e1k_sampler.has_key && (error = pthread_key_create(&e1k_sampler.at_exit, e1k_thread_ends)))
        return error;
    e1k_sampler.has_key = 1;
    e1k_sampler.code = calloc(E1K_MAX_CODES, sizeof *e1k_sampler.code);
    e1k_sampler.code_slot = calloc(E1K_MAX_CODES * 2, sizeof *e1k_sampler.code_slot);
    e1k_sampler.n_codes = 1;
    if (!e1k_tree_init(&e1k_sampler.tree, E1K_MAX_NODES) || e1k_sampler.code == NULL
        || e1k_sampler.code_slot == NULL) {
        e1k_free();
        return ENOMEM;
    }
    e1k_sampler.interval_ns = interval_ns;
    e1k_sampler.sampled_ns = e1k_sampler.overhead_ns = e1k_sampler.lost_ns = 0;
    e1k_sampler.samples = 0;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = e1k_on_signal;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGPROF, &action, &before)) {
        error = errno;
        e1k_free();
        return error;
    }
    if (before.sa_sigaction != e1k_on_signal)
        e1k_sampler.before = before;
    e1k_sampler.running = 1;
    return 0;
}

/* Stop the timers and restore the signal's action. A pending signal would end the process under
 * the default action, so in that case our handler stays, and does nothing. */
static void e1k_stop(void)
{
    e1k_thread *t;
    e1k_sampler.running = 0;
    pthread_mutex_lock(&e1k_sampler.threads_lock);
    for (t = e1k_sampler.threads; t != NULL; t = t->next)
        e1k_disarm(t);
    pthread_mutex_unlock(&e1k_sampler.threads_lock);
    if (e1k_sampler.before.sa_handler != SIG_DFL)
        sigaction(SIGPROF, &e1k_sampler.before, NULL);
    /* A handler that began before takes microseconds; the memory that it writes is freed after this. */
    while (atomic_flag_test_and_set_explicit(&e1k_sampler.busy, memory_order_acquire)) {
    }
    atomic_flag_clear_explicit(&e1k_sampler.busy, memory_order_release);
}

#else
#define E1K_SAMPLER 0
#endif
#endif
