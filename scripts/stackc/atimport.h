/* What a module of the stack does when it is imported; atimport.py makes Cython call it. It follows
 * Cython's own functions for imports, of which STACKC_IMPORT_FUNCTION is one.
 */
#ifndef E1000EMU_ATIMPORT_H
#define E1000EMU_ATIMPORT_H

/* `from module import ...` into a dict. */
static int stackc_import_names(PyObject *module, PyObject *const *names, Py_ssize_t count,
                               PyObject *into)
{
    PyObject *from = __Pyx_Import(module, names, count, NULL, 0);
    Py_ssize_t i;
    int err = from ? 0 : -1;
    for (i = 0; !err && i < count; i++) {
        PyObject *value = __Pyx_ImportFrom(from, names[i]);
        err = value ? PyDict_SetItem(into, names[i], value) : -1;
        Py_XDECREF(value);
    }
    Py_XDECREF(from);
    return err;
}

/* Find a module's C functions. `texts`: their signatures, empty for the one before, and from `names`
 * on their names; each ends with a NUL. `pointers` ends with NULL.
 */
static int stackc_import_functions(const char *module, const char *texts, Py_ssize_t names,
                                   void (**const *pointers)(void))
{
    PyObject *from = PyImport_ImportModule(module);
    const char *name = texts + names, *signature = texts;
    int err = from ? 0 : -1;
    for (; !err && *pointers; pointers++) {
        err = STACKC_IMPORT_FUNCTION(from, name, *pointers, signature) < 0 ? -1 : 0;
        name += strlen(name) + 1;
        texts += strlen(texts) + 1;
        if (*texts)
            signature = texts;
    }
    Py_XDECREF(from);
    return err;
}

#endif
