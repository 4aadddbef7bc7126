/* Attributes of the stack's extension types for Python code: one getter and one setter for each C
 * type, with the field's place as their closure. (Cython's `public` would write two functions for
 * each of some thousand fields.)
 */
#ifndef E1000EMU_STATE_FIELDS_H
#define E1000EMU_STATE_FIELDS_H

#include <Python.h>

/* A field as its class declares it: `of` is the index of its own type among TYPES of _state.pyx, -1
 * for none; `keep` says that a clone gets the original's value. A row without name ends a table.
 */
typedef struct {
    const char *name;
    Py_ssize_t offset;
    int kind, of, keep;
} state_row;

typedef struct {
    Py_ssize_t offset;
    PyTypeObject *type;
} state_field;

#define STATE_AT(self, closure, type) \
    (*(type *)((char *)(self) + ((const state_field *)(closure))->offset))

static int state_no_delete(PyObject *value)
{
    if (value)
        return 0;
    PyErr_SetString(PyExc_AttributeError, "a field of a state class cannot be deleted");
    return -1;
}

static PyObject *state_get_object(PyObject *self, void *closure)
{
    PyObject *value = STATE_AT(self, closure, PyObject *);
    Py_INCREF(value);
    return value;
}

static int state_set_object(PyObject *self, PyObject *value, void *closure)
{
    PyTypeObject *type = ((const state_field *)closure)->type;
    PyObject **at = &STATE_AT(self, closure, PyObject *), *old = *at;
    if (state_no_delete(value))
        return -1;
    if (type && value != Py_None && !PyObject_TypeCheck(value, type)) {
        PyErr_Format(PyExc_TypeError, "a %.200s is wanted here, not a %.200s", type->tp_name,
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    Py_INCREF(value);
    *at = value;
    Py_DECREF(old);
    return 0;
}

static PyObject *state_get_int(PyObject *self, void *closure)
{
    return PyLong_FromLongLong(STATE_AT(self, closure, long long));
}

static int state_set_int(PyObject *self, PyObject *value, void *closure)
{
    long long number;
    if (state_no_delete(value))
        return -1;
    number = PyLong_AsLongLong(value);
    if (number == -1 && PyErr_Occurred())
        return -1;
    STATE_AT(self, closure, long long) = number;
    return 0;
}

static PyObject *state_get_bool(PyObject *self, void *closure)
{
    return PyBool_FromLong(STATE_AT(self, closure, int));
}

static int state_set_bool(PyObject *self, PyObject *value, void *closure)
{
    int truth;
    if (state_no_delete(value))
        return -1;
    truth = PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    STATE_AT(self, closure, int) = truth;
    return 0;
}

static PyObject *state_get_double(PyObject *self, void *closure)
{
    return PyFloat_FromDouble(STATE_AT(self, closure, double));
}

static int state_set_double(PyObject *self, PyObject *value, void *closure)
{
    double number;
    if (state_no_delete(value))
        return -1;
    number = PyFloat_AsDouble(value);
    if (number == -1.0 && PyErr_Occurred())
        return -1;
    STATE_AT(self, closure, double) = number;
    return 0;
}

enum { STATE_OBJECT, STATE_INT, STATE_BOOL, STATE_DOUBLE };

/* Add an attribute for each row to `type`; what is made for it lives as long as the type, for ever. */
static int state_install(PyTypeObject *type, const state_row *rows, PyObject *types)
{
    static const getter getters[] = {state_get_object, state_get_int, state_get_bool,
                                     state_get_double};
    static const setter setters[] = {state_set_object, state_set_int, state_set_bool,
                                     state_set_double};
    for (; rows->name; rows++) {
        PyGetSetDef *def = PyMem_Calloc(1, sizeof *def);
        state_field *field = PyMem_Calloc(1, sizeof *field);
        PyObject *descriptor;
        int err;
        if (!def || !field) {
            PyMem_Free(def);
            PyMem_Free(field);
            PyErr_NoMemory();
            return -1;
        }
        field->offset = rows->offset;
        field->type = rows->of < 0 ? NULL : (PyTypeObject *)PyList_GET_ITEM(types, rows->of);
        def->name = rows->name;
        def->get = getters[rows->kind];
        def->set = setters[rows->kind];
        def->closure = field;
        descriptor = PyDescr_NewGetSet(type, def);
        if (!descriptor)
            return -1;
        err = PyDict_SetItemString(type->tp_dict, rows->name, descriptor);
        Py_DECREF(descriptor);
        if (err)
            return -1;
    }
    PyType_Modified(type);
    return 0;
}

/* Give `made` what `from` has in the fields of a table, in all of them or in those that a clone keeps. */
static int state_copy(PyObject *from, PyObject *made, const state_row *rows, int all)
{
    for (; rows->name; rows++) {
        void *at = (char *)made + rows->offset;
        const void *value = (const char *)from + rows->offset;
        if (!all && !rows->keep)
            continue;
        if (rows->kind == STATE_OBJECT) {
            PyObject *old = *(PyObject **)at;
            *(PyObject **)at = Py_NewRef(*(PyObject *const *)value);
            Py_DECREF(old);
        } else if (rows->kind == STATE_BOOL) {
            *(int *)at = *(const int *)value;
        } else {
            memcpy(at, value, 8); /* a long long or a double */
        }
    }
    return 0;
}

#endif
