/* The code object that a traceback's frame shows for a compiled function. Its file name is absolute
 * if the source is beside the module, as for an uncompiled function. Otherwise (a wheel has no .pyx)
 * it is the path in the source tree, which is in the C text.
 */
#ifndef E1000EMU_TRACEFILE_H
#define E1000EMU_TRACEFILE_H

#include <Python.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

/* Runs once for each line that raised; `globals` are the module's. No exception is set. */
#if defined(__GNUC__)
__attribute__((cold, noinline))
#endif
static PyCodeObject *tracefile_code(const char *file, const char *function, int line, PyObject *globals)
{
    char path[PATH_MAX];
    PyObject *named = PyDict_GetItemString(globals, "__name__");
    PyObject *loaded = PyDict_GetItemString(globals, "__file__");
    const char *name = named && PyUnicode_Check(named) ? PyUnicode_AsUTF8(named) : NULL;
    const char *module = loaded && PyUnicode_Check(loaded) ? PyUnicode_AsUTF8(loaded) : NULL;

    PyErr_Clear();
    if (name && module && file[0] != '/') {
        size_t root = strlen(module), length = strlen(file) + 1;

        /* /tree/stack/inet/tcp.cpython-311.so is stack.inet.tcp: three names are below /tree */
        for (; name; name = strchr(name + 1, '.'))
            while (root && module[--root] != '/')
                ;
        if (root + 1 + length <= sizeof path) {
            memcpy(path, module, root);
            path[root] = '/';
            memcpy(path + root + 1, file, length);
            if (access(path, R_OK) == 0)
                file = path;
        }
    }
    return PyCode_NewEmpty(file, function, line);
}

#endif
