/* SPDX-License-Identifier: Apache-2.0
 *
 * One call from C into Python, for both faces. Addresses are handed on as numbers; Python reads what
 * they point to by process_vm_readv(2), so a wild one is EFAULT.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>

#include "interpreter.h"

#include "hooks.h"
#include "provided.h"

#define CALL_ARGS 7

void shim_served(void)
{
    served = 1;
}

static int64_t call_with(const char *name, const int64_t args[CALL_ARGS])
{
    int64_t value;
    int code;

    lock();
    code = ready(NULL);
    unlock();
    if (code) { /* Python does not start, and the text says why */
        errno = ENOSYS;
        return -1;
    }
    attach();
    value = py_call(name, args);
    if (value < 0) {
        errno = (int)-value;
        return -1;
    }
    return value;
}

#define CALL(name, ...) call_with((name), (const int64_t[CALL_ARGS]){__VA_ARGS__})
#define AT(pointer) ((int64_t)(uintptr_t)(pointer))
