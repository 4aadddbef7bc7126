/* What the profiler and the call recorder need to know of CPython's frames, by version.
 *
 * The layout is private to CPython, and its headers for debuggers and the like (internal/) are part
 * of every installation that can build an extension. Sources: Include/internal/pycore_frame.h of
 * 3.11 to 3.13. Later versions get no frames (E1K_FRAMES 0), because their layout may differ.
 */
#ifndef E1K_PYFRAME_H
#define E1K_PYFRAME_H

#include <Python.h>
#include <stddef.h>
#include <stdint.h>

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000
#define E1K_FRAMES 1
#ifndef Py_BUILD_CORE
#define Py_BUILD_CORE 1
#endif
#include <internal/pycore_frame.h>

typedef struct _PyInterpreterFrame e1k_frame;

/* The bytes of a frame that e1k_frame_code and the like read. */
#define E1K_FRAME_BYTES offsetof(e1k_frame, localsplus)

static inline PyObject *e1k_frame_code(const e1k_frame *f)
{
#if PY_VERSION_HEX >= 0x030D0000
    return f->f_executable;
#else
    return (PyObject *)f->f_code;
#endif
}

/* A frame that the interpreter uses between C and Python; it belongs to no function. */
static inline int e1k_frame_is_entry(const e1k_frame *f)
{
#if PY_VERSION_HEX >= 0x030C0000
    return f->owner == FRAME_OWNED_BY_CSTACK;
#else
    (void)f;
    return 0;
#endif
}

/* A call that only makes a generator or coroutine, and runs none of the function's body. */
static inline int e1k_frame_makes_generator(const e1k_frame *f)
{
    int flags = ((PyCodeObject *)e1k_frame_code(f))->co_flags;
    return flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR)
           && f->owner == FRAME_OWNED_BY_THREAD;
}

static inline e1k_frame *e1k_current_frame(PyThreadState *ts)
{
#if PY_VERSION_HEX >= 0x030D0000
    return ts->current_frame;
#else
    return ts->cframe->current_frame;
#endif
}

/* Some address inside the C stack frame of the innermost running interpreter loop, or 0 where only
 * the chain of frames tells (3.13: its first entry frame). */
static inline uintptr_t e1k_loop_mark(PyThreadState *ts)
{
#if PY_VERSION_HEX >= 0x030D0000
    (void)ts;
    return 0;
#else
    return (uintptr_t)ts->cframe;
#endif
}

#else
#define E1K_FRAMES 0
#endif
#endif
