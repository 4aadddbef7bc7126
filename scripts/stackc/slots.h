/* Calls through a slot (`sk_prot.sendmsg`, `dst.output`): straight to the C function, with argument
 * types checked, when the slot holds a function of a compiled module; otherwise through Python.
 *
 * Each compiled module lists its functions in `_slot_shapes`: name -> (shape, types). A shape has a
 * letter for each argument and the result: O object, L long long, B truth value, D double. Only
 * functions that are names of their module are cached: they live as long as the module.
 */
#ifndef E1000EMU_SLOTS_H
#define E1000EMU_SLOTS_H

#include <Python.h>

#define SLOT_ARGS 6
#define SLOT_WAYS 64

typedef struct {
    PyObject *fn;
    const char *shape; /* of the call */
    void *call;        /* NULL: through Python */
    PyTypeObject *types[SLOT_ARGS];
    PyTypeObject *seen[SLOT_ARGS]; /* for each type, the derived type seen last; owned */
} slot_way;

static slot_way slot_ways[SLOT_WAYS];
static const slot_way slot_python;
/* The type of compiled modules' functions, once one is found. Others (partial, attrgetter) would be
 * looked up at each call, in vain. */
static PyTypeObject *slot_kind;

/* Fill `way` for `fn`; 0 when it is no function of a compiled module. Sets no exception. */
static int slot_learn(slot_way *way, PyObject *fn, const char *shape)
{
    PyObject *name = NULL, *owner = NULL, *module, *dict, *shapes, *entry, *capi, *capsule, *types;
    slot_way found = {0}, last;
    int learnt = 0;
    Py_ssize_t i;
    if (slot_kind && Py_TYPE(fn) != slot_kind)
        return 0;
    if (PyMethod_Check(fn) || PyCFunction_Check(fn) || PyFunction_Check(fn) || PyType_Check(fn))
        return 0;
    name = PyObject_GetAttrString(fn, "__name__");
    owner = name ? PyObject_GetAttrString(fn, "__module__") : NULL;
    if (!owner || !PyUnicode_Check(owner) || !PyUnicode_Check(name))
        goto end;
    module = PyDict_GetItem(PyImport_GetModuleDict(), owner);
    dict = module && PyModule_Check(module) ? PyModule_GetDict(module) : NULL;
    if (!dict || PyDict_GetItem(dict, name) != fn)
        goto end;
    shapes = PyDict_GetItemString(dict, "_slot_shapes");
    capi = PyDict_GetItemString(dict, "__pyx_capi__");
    entry = shapes ? PyDict_GetItem(shapes, name) : NULL;
    capsule = entry && capi ? PyDict_GetItem(capi, name) : NULL;
    if (capsule && !strcmp(PyUnicode_AsUTF8(PyTuple_GET_ITEM(entry, 0)), shape)) {
        types = PyTuple_GET_ITEM(entry, 1);
        for (i = 0; i < PyTuple_GET_SIZE(types); i++)
            if (PyTuple_GET_ITEM(types, i) != Py_None)
                found.types[i] = (PyTypeObject *)PyTuple_GET_ITEM(types, i);
        found.call = PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule));
        slot_kind = Py_TYPE(fn);
    }
    found.fn = fn;
    found.shape = shape;
    Py_INCREF(fn);
    last = *way;
    *way = found;
    Py_XDECREF(last.fn);
    for (i = 0; i < SLOT_ARGS; i++)
        Py_XDECREF(last.seen[i]);
    learnt = 1;
end:
    PyErr_Clear();
    Py_XDECREF(name);
    Py_XDECREF(owner);
    return learnt;
}

static inline const slot_way *slot_find(PyObject *fn, const char *shape)
{
    size_t at = ((size_t)fn >> 4 ^ (size_t)fn >> 10) % SLOT_WAYS;
    slot_way *way = &slot_ways[at], *next = &slot_ways[at ^ 1];
    if (way->fn == fn && way->shape == shape)
        return way;
    if (next->fn == fn && next->shape == shape)
        return next;
    way = way->fn && !next->fn ? next : way;
    return slot_learn(way, fn, shape) ? way : &slot_python;
}

/* slot_takes() for an object whose type is neither the declared one nor the one seen last. */
static int slot_takes_other(slot_way *way, int i, PyObject *arg)
{
    PyTypeObject *type = Py_TYPE(arg), *last = way->seen[i];
    if (arg == Py_None)
        return 1;
    if (!PyType_IsSubtype(type, way->types[i]))
        return 0;
    Py_INCREF(type);
    way->seen[i] = type;
    Py_XDECREF(last);
    return 1;
}

/* Whether argument `i` is of the type that the function declares; None is of every type. */
static inline int slot_takes(const slot_way *way, int i, PyObject *arg)
{
    PyTypeObject *type = way->types[i];
    return !type || Py_TYPE(arg) == type || Py_TYPE(arg) == way->seen[i]
        || slot_takes_other((slot_way *)way, i, arg);
}

#endif
