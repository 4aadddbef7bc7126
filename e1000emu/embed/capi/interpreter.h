/* SPDX-License-Identifier: Apache-2.0
 *
 * The part that every library with a Python half has: the text of the last error, one lock, threads
 * that Python has never seen, fork, and the start of Python. One C file of a library includes it,
 * after _GNU_SOURCE (for dladdr) and Python.h.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "e1000emu.h" /* enum e1000emu_error */

#include "paths.h" /* written by build.py: where this Python and its packages are */

int shim_start_cffi(void);

/* Set by what host.py calls last: Python serves. */
static int served;

/* Present when the program is linked with a sanitizer's runtime. */
extern void *__asan_region_is_poisoned(void *begin, size_t size) __attribute__((weak));
extern void __lsan_do_leak_check(void) __attribute__((weak));

/* --- errors --------------------------------------------------------------------------------------- */

static _Thread_local char last_error[2048];
static _Thread_local int last_code;

int shim_error(int code, const char *text)
{
    snprintf(last_error, sizeof last_error, "%s", text);
    last_code = code;
    return code;
}

__attribute__((format(printf, 2, 3))) static int fail(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(last_error, sizeof last_error, format, args);
    va_end(args);
    last_code = code;
    return code;
}

const char *shim_fingerprint(void)
{
    return PATHS_FINGERPRINT;
}

/* --- the lock, and threads that Python has never seen -------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local int depth; /* nested calls of this thread */
static _Thread_local int attached;
static pthread_key_t attached_key;

static void lock(void)
{
    if (depth++)
        return;
    if (pthread_mutex_trylock(&mutex) == 0)
        return;
    /* The owner of the lock may need the GIL, so no thread waits for the lock with the GIL held. */
    if (Py_IsInitialized() && PyGILState_Check()) {
        PyThreadState *state = PyEval_SaveThread();
        pthread_mutex_lock(&mutex);
        PyEval_RestoreThread(state);
    } else {
        pthread_mutex_lock(&mutex);
    }
}

static void unlock(void)
{
    if (--depth == 0)
        pthread_mutex_unlock(&mutex);
}

/* Each PyGILState_Ensure in a thread without a thread state makes one, each Release throws it away:
 * a microsecond per register access. One Ensure more keeps it until the thread ends. */
static void attach(void)
{
    if (attached)
        return;
    attached = 1;
    if (PyGILState_GetThisThreadState() != NULL)
        return;
    PyGILState_Ensure();
    PyEval_SaveThread();
    pthread_setspecific(attached_key, &attached_key);
}

static void detach(void *unused)
{
    (void)unused;
    if (!Py_IsInitialized())
        return;
    PyGILState_Ensure();
    PyGILState_Release(PyGILState_LOCKED);
    PyGILState_Release(PyGILState_UNLOCKED);
}

/* --- fork ----------------------------------------------------------------------------------------- */

static _Thread_local PyGILState_STATE fork_gil;

static void before_fork(void)
{
    lock();
    attach();
    fork_gil = PyGILState_Ensure();
    PyOS_BeforeFork();
}

static void after_fork_parent(void)
{
    PyOS_AfterFork_Parent();
    PyGILState_Release(fork_gil);
    unlock();
}

static void after_fork_child(void)
{
    PyOS_AfterFork_Child();
    PyGILState_Release(fork_gil);
    /* In the child this thread has another id, so the mutex is made anew. */
    pthread_mutex_init(&mutex, NULL);
    if (--depth)
        pthread_mutex_lock(&mutex);
}

/* --- Python --------------------------------------------------------------------------------------- */

static int started;            /* 1: Python serves; -1: it never will */
static int ours;               /* nobody else has started it */
static char start_error[2048]; /* why */

static int is_there(const char *directory, const char *file)
{
    char path[4096];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s%s%s", directory, *file ? "/" : "", file);
    return n > 0 && (size_t)n < sizeof path && stat(path, &st) == 0;
}

/* Add the directories of a list with colons between them. */
static PyStatus add_paths(PyConfig *config, const char *list)
{
    while (list && *list) {
        const char *end = strchr(list, ':');
        size_t n = end ? (size_t)(end - list) : strlen(list);
        if (n) {
            PyStatus status;
            wchar_t *wide;
            char *one = malloc(n + 1);
            if (!one)
                return PyStatus_NoMemory();
            memcpy(one, list, n);
            one[n] = 0;
            wide = Py_DecodeLocale(one, NULL);
            free(one);
            if (!wide)
                return PyStatus_NoMemory();
            status = PyWideStringList_Append(&config->module_search_paths, wide);
            PyMem_RawFree(wide);
            if (PyStatus_Exception(status))
                return status;
        }
        list = end ? end + 1 : NULL;
    }
    return PyStatus_Ok();
}

static PyStatus initialize(const char *home, const char *stdlib, const char *option)
{
    PyPreConfig pre;
    PyConfig config;
    PyStatus status;
    const char *allocator = getenv("PYTHONMALLOC");

    PyPreConfig_InitIsolatedConfig(&pre);
    pre.utf8_mode = 1;
    /* A leak checker must see each of Python's objects, or it reports what only they hold as lost.
     * Nothing else of the environment matters. */
    if (__asan_region_is_poisoned || __lsan_do_leak_check ||
        (allocator && strcmp(allocator, "malloc") == 0))
        pre.allocator = PYMEM_ALLOCATOR_MALLOC;
    status = Py_PreInitialize(&pre);
    if (PyStatus_Exception(status))
        return status;
    PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 0;
    config.site_import = 0; /* the paths are known, and .pth files may run anything */
    config.module_search_paths_set = 1;
    status = PyConfig_SetBytesString(&config, &config.home, home);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesString(&config, &config.executable, PATHS_EXECUTABLE);
    if (!PyStatus_Exception(status))
        status = add_paths(&config, getenv("E1000EMU_PYTHONPATH"));
    if (!PyStatus_Exception(status))
        status = add_paths(&config, option);
    if (!PyStatus_Exception(status))
        status = add_paths(&config, stdlib);
    if (!PyStatus_Exception(status))
        status = add_paths(&config, PATHS_PACKAGES);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return status;
}

/* Python's extension modules are not linked with libpython; they expect its symbols in the global
 * scope. They are missing there when a program has loaded us by dlopen with RTLD_LOCAL. */
static void show_libpython(void)
{
    Dl_info info;
    if (dladdr((const void *)&Py_Version, &info) && info.dli_fname)
        (void)dlopen(info.dli_fname, RTLD_LAZY | RTLD_GLOBAL | RTLD_NOLOAD);
}

static int start_interpreter(const char *option)
{
    char moved[4096];
    const char *home = getenv("E1000EMU_PYTHONHOME"), *stdlib = PATHS_STDLIB;
    const char *first = PATHS_STDLIB_DIR;
    PyStatus status;

    if (home && *home) {
        int n = snprintf(moved, sizeof moved, "%s/lib/python%d.%d", home, PY_MAJOR_VERSION,
                         PY_MINOR_VERSION);
        if (n < 0 || (size_t)n >= sizeof moved / 2 - 16)
            return fail(E1000EMU_EPYTHON, "E1000EMU_PYTHONHOME is too long");
        first = strdup(moved);
        if (!first)
            return fail(E1000EMU_ENOMEM, "no memory to start Python");
        snprintf(moved + n, sizeof moved - (size_t)n, ":%s/lib-dynload", first);
        stdlib = moved;
    } else {
        home = PATHS_HOME;
    }
    /* Python itself prints to the standard error and cannot be tried again. */
    if (!is_there(first, "encodings"))
        return fail(E1000EMU_EPYTHON,
                    "no standard library of Python %d.%d in %s; set E1000EMU_PYTHONHOME to the "
                    "prefix of a Python %d.%d, or build " PATHS_LIBRARY " on this machine",
                    PY_MAJOR_VERSION, PY_MINOR_VERSION, first, PY_MAJOR_VERSION, PY_MINOR_VERSION);
    show_libpython();
    status = initialize(home, stdlib, option);
    if (PyStatus_Exception(status))
        return fail(E1000EMU_EPYTHON, "Python does not start: %s (%s); standard library: %s",
                    status.err_msg ? status.err_msg : "it exits", status.func ? status.func : "?",
                    first);
    PyEval_SaveThread();
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    return 0;
}

/* In a process with a Python of its own: add our directories to its path. */
static int extend_path(const char *list, int front)
{
    PyObject *path = PySys_GetObject("path");
    Py_ssize_t at = 0;
    if (!path || !PyList_Check(path))
        return -1;
    while (list && *list) {
        const char *end = strchr(list, ':');
        size_t n = end ? (size_t)(end - list) : strlen(list);
        PyObject *one = PyUnicode_DecodeFSDefaultAndSize(list, (Py_ssize_t)n);
        int bad = !one || (n && (front ? PyList_Insert(path, at++, one) : PyList_Append(path, one)));
        Py_XDECREF(one);
        if (bad)
            return -1;
        list = end ? end + 1 : NULL;
    }
    return 0;
}

/* Put the pending Python exception into the error text, as one line. */
static int python_error(const char *what)
{
    PyObject *type, *value, *traceback, *text;
    const char *words = NULL;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    text = value ? PyObject_Str(value) : NULL;
    if (text)
        words = PyUnicode_AsUTF8(text);
    fail(E1000EMU_EPYTHON, "%s: %s; set E1000EMU_PYTHONPATH to the directories that have it", what,
         words ? words : "no reason is known");
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    PyErr_Clear();
    return E1000EMU_EPYTHON;
}

static int find_packages(const char *option)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *module;
    int code = 0;
    if (!ours && (extend_path(getenv("E1000EMU_PYTHONPATH"), 1) || extend_path(option, 1) ||
                  extend_path(PATHS_PACKAGES, 0)))
        code = python_error("sys.path");
#if PY_VERSION_HEX < 0x030C0000
    /* cffi's start spins on this type's version tag, which a lookup by the host may have set. */
    PyType_Modified(&PyCapsule_Type);
#endif
    if (!code) {
        module = PyImport_ImportModule("_cffi_backend");
        if (!module)
            code = python_error("cffi");
        Py_XDECREF(module);
    }
    PyGILState_Release(state);
    return code;
}

static int start(const char *option)
{
    int code;
    ours = !Py_IsInitialized();
    if (!ours && (Py_Version >> 16 != PY_VERSION_HEX >> 16))
        return fail(E1000EMU_EPYTHON,
                    "this process runs Python %lu.%lu, " PATHS_LIBRARY " was built for %d.%d; "
                    "build it with the Python that loads it",
                    Py_Version >> 24, Py_Version >> 16 & 0xFF, PY_MAJOR_VERSION, PY_MINOR_VERSION);
    if (pthread_key_create(&attached_key, detach))
        return fail(E1000EMU_ENOMEM, "no thread-specific key is left");
    if (ours) {
        code = start_interpreter(option);
        if (code)
            return code;
    }
    code = find_packages(option);
    if (code)
        return code;
    last_error[0] = 0;
    if (shim_start_cffi() < 0)
        return fail(E1000EMU_EPYTHON, "cffi's start failed; its reason is on the standard error");
    if (!served) /* host.py has left the reason */
        return last_error[0] ? E1000EMU_EPYTHON : fail(E1000EMU_EPYTHON, "host.py did not start");
    return 0;
}

int shim_owns_python(void)
{
    return ours;
}

static int ready(const char *option)
{
    if (started == 0) {
        started = start(option) == 0 ? 1 : -1;
        if (started < 0)
            memcpy(start_error, last_error, sizeof start_error);
    }
    return started > 0 ? 0 : fail(E1000EMU_EPYTHON, "%s", start_error);
}
