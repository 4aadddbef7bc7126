/* What the stack's extension types share: attributes, constructor, copies. A class is a table of
 * its fields; stack/core/rows.py gives each field's start value and what a clone gets of it.
 * Separate code for each of two hundred classes would be a tenth of the stack's C.
 */
#ifndef E1000EMU_STATE_FIELDS_H
#define E1000EMU_STATE_FIELDS_H

#include <Python.h>

enum { STATE_OBJECT, STATE_INT, STATE_BOOL, STATE_DOUBLE, STATE_U8, STATE_U16, STATE_U32,
       STATE_I32 };

/* A field as its class declares it: `of` is the index of its own type among TYPES of _state.pyx, -1
 * for none. A row without name ends a table.
 */
typedef struct {
    const char *name;
    Py_ssize_t offset;
    int kind, of;
} state_row;

/* The start of a field in a new object, and in a clone. */
enum { STATE_REQUIRED, STATE_VALUE, STATE_NUMBER, STATE_LIST, STATE_DICT, STATE_MAKE, STATE_FIND };
enum { STATE_KEEP, STATE_FRESH, STATE_COPY };

typedef struct {
    PyObject *name;
    Py_ssize_t offset;
    int kind;
    PyTypeObject *type; /* type of its objects, or NULL */
    int start, cloned, parameter;
    long long number;
    PyObject *value;  /* STATE_VALUE: the value; STATE_MAKE, STATE_FIND: a function for it */
    PyObject *copier; /* STATE_COPY */
} state_field;

/* Adjacent numbers. */
typedef struct {
    Py_ssize_t offset;
    size_t size;
} state_span;

/* How to fill an object: spans of bytes to copy, objects to set to None (in a new object they are),
 * then fields one by one. A span of size 0, an offset of 0 and a NULL end the three lists.
 */
typedef struct {
    state_span *spans;
    Py_ssize_t *nones;
    state_field **fields;
} state_plan;

/* A class: all its fields, inherited ones first; some are parameters of its constructor. */
typedef struct state_class {
    PyTypeObject *type;
    const state_row *rows;
    state_field *own, *fields;
    int count, parameters, required;
    state_field **order; /* parameters, those without default first; then the other fields */
    char *image;         /* an object whose number fields have their start values */
    state_plan start, again, clone, copy; /* `start`, `again`: from the image */
    struct state_class *next;
} state_class;

static state_class *state_classes; /* the newest first */

#define STATE_AT(self, field, type) (*(type *)((char *)(self) + (field)->offset))

static PyObject *state_get(PyObject *self, void *closure)
{
    const state_field *field = closure;
    switch (field->kind) {
    case STATE_INT:
        return PyLong_FromLongLong(STATE_AT(self, field, long long));
    case STATE_BOOL:
        return PyBool_FromLong(STATE_AT(self, field, unsigned char));
    case STATE_DOUBLE:
        return PyFloat_FromDouble(STATE_AT(self, field, double));
    case STATE_U8:
        return PyLong_FromLong(STATE_AT(self, field, unsigned char));
    case STATE_U16:
        return PyLong_FromLong(STATE_AT(self, field, unsigned short));
    case STATE_U32:
        return PyLong_FromLongLong(STATE_AT(self, field, unsigned int));
    case STATE_I32:
        return PyLong_FromLong(STATE_AT(self, field, int));
    default:
        return Py_NewRef(STATE_AT(self, field, PyObject *));
    }
}

static int state_check(const state_field *field, PyObject *value)
{
    if (!field->type || value == Py_None || PyObject_TypeCheck(value, field->type))
        return 0;
    PyErr_Format(PyExc_TypeError, "a %.200s is wanted here, not a %.200s", field->type->tp_name,
                 Py_TYPE(value)->tp_name);
    return -1;
}

static size_t state_size(const state_field *field)
{
    switch (field->kind) {
    case STATE_BOOL:
    case STATE_U8:
        return 1;
    case STATE_U16:
        return 2;
    case STATE_U32:
    case STATE_I32:
        return 4;
    default:
        return 8;
    }
}

/* Store a number, -1 with OverflowError if the field has too few bits. (Doubles come as bytes.) */
static int state_put_number(PyObject *self, const state_field *field, long long number)
{
    int bits = 8 * (int)state_size(field), is_signed = field->kind == STATE_I32;
    if (bits < 64 && (number < (is_signed ? -(1LL << (bits - 1)) : 0) ||
                      number >= 1LL << (bits - is_signed))) {
        PyErr_Format(PyExc_OverflowError, "%lld does not fit into %U", number, field->name);
        return -1;
    }
    switch (bits) {
    case 8:
        STATE_AT(self, field, unsigned char) = (unsigned char)number;
        return 0;
    case 16:
        STATE_AT(self, field, unsigned short) = (unsigned short)number;
        return 0;
    case 32:
        STATE_AT(self, field, unsigned int) = (unsigned int)number;
        return 0;
    default:
        STATE_AT(self, field, long long) = number;
        return 0;
    }
}

static int state_put(PyObject *self, const state_field *field, PyObject *value)
{
    if (field->kind == STATE_OBJECT) {
        PyObject *old = STATE_AT(self, field, PyObject *);
        if (state_check(field, value))
            return -1;
        STATE_AT(self, field, PyObject *) = Py_NewRef(value);
        Py_DECREF(old);
    } else if (field->kind == STATE_INT) {
        long long number = PyLong_AsLongLong(value);
        if (number == -1 && PyErr_Occurred())
            return -1;
        STATE_AT(self, field, long long) = number;
    } else if (field->kind == STATE_BOOL) {
        int truth = PyObject_IsTrue(value);
        if (truth < 0)
            return -1;
        STATE_AT(self, field, unsigned char) = (unsigned char)truth;
    } else if (field->kind == STATE_DOUBLE) {
        double number = PyFloat_AsDouble(value);
        if (number == -1.0 && PyErr_Occurred())
            return -1;
        STATE_AT(self, field, double) = number;
    } else {
        long long number = PyLong_AsLongLong(value);
        if (number == -1 && PyErr_Occurred())
            return -1;
        return state_put_number(self, field, number);
    }
    return 0;
}

static int state_set(PyObject *self, PyObject *value, void *closure)
{
    if (value)
        return state_put(self, closure, value);
    PyErr_SetString(PyExc_AttributeError, "a field of a state class cannot be deleted");
    return -1;
}

/* Set the field to `value` and take over its reference. */
static int state_put_new(PyObject *self, const state_field *field, PyObject *value)
{
    int err = value ? state_put(self, field, value) : -1;
    Py_XDECREF(value);
    return err;
}

static int state_start(PyObject *self, const state_field *field)
{
    switch (field->start) {
    case STATE_VALUE: { /* its type was checked at declaration */
        PyObject *old = STATE_AT(self, field, PyObject *);
        STATE_AT(self, field, PyObject *) = Py_NewRef(field->value);
        Py_DECREF(old);
        return 0;
    }
    case STATE_NUMBER: /* or the bytes of a double, or a truth value */
        return state_put_number(self, field, field->number);
    case STATE_LIST:
        return state_put_new(self, field, PyList_New(0));
    case STATE_DICT:
        return state_put_new(self, field, PyDict_New());
    case STATE_MAKE:
        return state_put_new(self, field, PyObject_CallNoArgs(field->value));
    case STATE_FIND:
        return state_put_new(self, field, PyObject_CallOneArg(field->value, self));
    default: /* a parameter without default stays as it is */
        return 0;
    }
}

/* Copy a plan's spans and set its Nones. */
static void state_fill(PyObject *self, const char *from, const state_plan *plan)
{
    const state_span *span;
    const Py_ssize_t *offset;
    for (span = plan->spans; span->size; span++)
        memcpy((char *)self + span->offset, from + span->offset, span->size);
    for (offset = plan->nones; *offset; offset++) {
        PyObject **object = (PyObject **)((char *)self + *offset), *old = *object;
        if (old != Py_None) {
            *object = Py_NewRef(Py_None);
            Py_DECREF(old);
        }
    }
}

/* Copy an object field's reference from `from` to `made`. */
static void state_keep(PyObject *from, PyObject *made, const state_field *field)
{
    PyObject *old = STATE_AT(made, field, PyObject *);
    STATE_AT(made, field, PyObject *) = Py_NewRef(STATE_AT(from, field, PyObject *));
    Py_DECREF(old);
}

static int state_is_bound(const state_class *cls)
{
    if (cls->fields)
        return 1;
    PyErr_Format(PyExc_RuntimeError, "%.200s has not been declared", cls->type->tp_name);
    return 0;
}

/* The position of a parameter by its name; -1 for none. */
static int state_parameter(const state_class *cls, PyObject *name)
{
    int i;
    for (i = 0; i < cls->parameters; i++)
        if (cls->order[i]->name == name) /* both interned: nearly always */
            return i;
    for (i = 0; i < cls->parameters; i++)
        if (PyUnicode_Compare(cls->order[i]->name, name) == 0)
            return i;
    return -1;
}

enum { STATE_MOST = 512 };

/* The constructor: parameters by position and by name, then all other fields, whose values may
 * depend on the parameters. `given` tells which parameters were passed.
 */
static int state_positional(const state_class *cls, PyObject *self, char *given,
                            PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t i;
    if (!state_is_bound(cls))
        return -1;
    state_fill(self, cls->image, &cls->start);
    if (count < cls->parameters) {
        memset(given + count, 0, cls->parameters - count);
    } else if (count > cls->parameters) {
        PyErr_Format(PyExc_TypeError, "%.200s.__init__() takes %d arguments but %zd were given",
                     cls->type->tp_name, cls->parameters, count);
        return -1;
    }
    for (i = 0; i < count; i++) {
        const state_field *field = cls->order[i];
        PyObject *value = args[i], *old;
        given[i] = 1;
        if (field->kind != STATE_OBJECT ||
            (field->type && value != Py_None && !Py_IS_TYPE(value, field->type))) {
            if (state_put(self, field, value))
                return -1;
            continue;
        }
        old = STATE_AT(self, field, PyObject *); /* state_put, of the usual kind */
        STATE_AT(self, field, PyObject *) = Py_NewRef(value);
        Py_DECREF(old);
    }
    return 0;
}

static int state_named(const state_class *cls, PyObject *self, char *given, PyObject *name,
                       PyObject *value)
{
    int number = state_parameter(cls, name);
    if (number < 0 || given[number]) {
        PyErr_Format(PyExc_TypeError, "%.200s.__init__() got %s argument '%U'", cls->type->tp_name,
                     number < 0 ? "an unexpected keyword" : "multiple values for", name);
        return -1;
    }
    given[number] = 1;
    return state_put(self, cls->order[number], value);
}

static int state_rest(const state_class *cls, PyObject *self, const char *given, Py_ssize_t count)
{
    state_field *const *field;
    for (; count < cls->parameters; count++) {
        if (given[count])
            continue;
        if (count < cls->required) {
            PyErr_Format(PyExc_TypeError, "%.200s.__init__() missing required argument: '%U'",
                         cls->type->tp_name, cls->order[count]->name);
            return -1;
        }
        if (cls->order[count]->kind == STATE_OBJECT && state_start(self, cls->order[count]))
            return -1;
    }
    for (field = cls->start.fields; *field; field++)
        if (state_start(self, *field))
            return -1;
    return 0;
}

/* `__init__`, when it is called by name or by a subclass. */
static int state_construct(const state_class *cls, PyObject *self, PyObject *args, PyObject *named)
{
    char given[STATE_MOST];
    Py_ssize_t count = PyTuple_GET_SIZE(args), at = 0;
    PyObject *key, *value;
    if (state_positional(cls, self, given, &PyTuple_GET_ITEM(args, 0), count))
        return -1;
    while (named && PyDict_Next(named, &at, &key, &value))
        if (state_named(cls, self, given, key, value))
            return -1;
    return state_rest(cls, self, given, count);
}

/* A new object: the type itself is called. */
static PyObject *state_call(const state_class *cls, PyObject *const *args, size_t flags,
                            PyObject *names)
{
    char given[STATE_MOST];
    Py_ssize_t i, count = PyVectorcall_NARGS(flags);
    PyObject *none = PyTuple_New(0), *self = none ? cls->type->tp_new(cls->type, none, NULL) : NULL;
    int err;
    Py_XDECREF(none);
    if (!self)
        return NULL;
    err = state_positional(cls, self, given, args, count);
    for (i = 0; !err && names && i < PyTuple_GET_SIZE(names); i++)
        err = state_named(cls, self, given, PyTuple_GET_ITEM(names, i), args[count + i]);
    if (err || state_rest(cls, self, given, count))
        Py_CLEAR(self);
    return self;
}

static PyObject *state_init_state(const state_class *cls, PyObject *self)
{
    state_field *const *field;
    if (!state_is_bound(cls))
        return NULL;
    state_fill(self, cls->image, &cls->again);
    for (field = cls->again.fields; *field; field++)
        if (state_start(self, *field))
            return NULL;
    Py_RETURN_NONE;
}

/* clone_state: what accept() makes of a listener. */
static PyObject *state_clone_state(const state_class *cls, PyObject *self, PyObject *made)
{
    state_field *const *at;
    if (!state_is_bound(cls))
        return NULL;
    if (!PyObject_TypeCheck(made, cls->type)) {
        PyErr_Format(PyExc_TypeError, "a clone of a %.200s is wanted, not a %.200s",
                     cls->type->tp_name, Py_TYPE(made)->tp_name);
        return NULL;
    }
    state_fill(made, (const char *)self, &cls->clone);
    for (at = cls->clone.fields; *at; at++) {
        const state_field *field = *at;
        if (field->cloned == STATE_KEEP) {
            state_keep(self, made, field);
        } else if (field->cloned == STATE_FRESH) {
            if (state_start(made, field))
                return NULL;
        } else {
            PyObject *value = state_get(self, (void *)field);
            PyObject *copy = value ? PyObject_CallOneArg(field->copier, value) : NULL;
            Py_XDECREF(value);
            if (state_put_new(made, field, copy))
                return NULL;
        }
    }
    return Py_NewRef(made);
}

static PyObject *state_copy(const state_class *cls, PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject *none, *made;
    state_field *const *field;
    if (!state_is_bound(cls) || !(none = PyTuple_New(0)))
        return NULL;
    made = type->tp_new(type, none, NULL);
    Py_DECREF(none);
    if (!made)
        return NULL;
    state_fill(made, (const char *)self, &cls->copy);
    for (field = cls->copy.fields; *field; field++)
        state_keep(self, made, *field);
    return made;
}

static PyObject *state_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyErr_Format(PyExc_TypeError, "a %.200s cannot be pickled", Py_TYPE(self)->tp_name);
}

/* The functions of one class; its type passes them only the object. */
#define STATE_CLASS(name)                                                                          \
    static state_class class_##name;                                                               \
    static int init_##name(PyObject *self, PyObject *args, PyObject *named)                        \
    {                                                                                              \
        return state_construct(&class_##name, self, args, named);                                  \
    }                                                                                              \
    static PyObject *call_##name(PyObject *type, PyObject *const *args, size_t flags,              \
                                 PyObject *names)                                                  \
    {                                                                                              \
        (void)type;                                                                                \
        return state_call(&class_##name, args, flags, names);                                      \
    }                                                                                              \
    static PyObject *init_state_##name(PyObject *self, PyObject *unused)                           \
    {                                                                                              \
        (void)unused;                                                                              \
        return state_init_state(&class_##name, self);                                              \
    }                                                                                              \
    static PyObject *clone_state_##name(PyObject *self, PyObject *made)                            \
    {                                                                                              \
        return state_clone_state(&class_##name, self, made);                                       \
    }                                                                                              \
    static PyObject *copy_##name(PyObject *self, PyObject *unused)                                 \
    {                                                                                              \
        (void)unused;                                                                              \
        return state_copy(&class_##name, self);                                                    \
    }                                                                                              \
    static PyMethodDef methods_##name[] = {                                                        \
        {"init_state", init_state_##name, METH_NOARGS, NULL},                                      \
        {"clone_state", clone_state_##name, METH_O, NULL},                                         \
        {"__copy__", copy_##name, METH_NOARGS, NULL},                                              \
        {"__reduce__", state_reduce, METH_NOARGS, NULL},                                           \
        {NULL, NULL, 0, NULL},                                                                     \
    };

static int state_add(PyTypeObject *type, const char *name, PyObject *made)
{
    int err = made ? PyDict_SetItemString(type->tp_dict, name, made) : -1;
    Py_XDECREF(made);
    return err;
}

/* Make a class of `type`: an attribute for each row, the constructor and the methods. What is made
 * for it lives as long as the type, for ever.
 */
static int state_install(state_class *cls, PyTypeObject *type, const state_row *rows,
                         initproc init, vectorcallfunc call, PyMethodDef *methods, PyObject *types)
{
    PyObject *of_all = PyObject_GetAttrString((PyObject *)&PyBaseObject_Type, "__init__");
    struct wrapperbase *slot;
    PyGetSetDef *defs;
    int i, count = 0;
    if (!of_all)
        return -1;
    slot = ((PyWrapperDescrObject *)of_all)->d_base; /* CPython's own, static */
    Py_DECREF(of_all);
    while (rows[count].name)
        count++;
    cls->type = type;
    cls->rows = rows;
    cls->next = state_classes;
    state_classes = cls;
    cls->own = PyMem_Calloc(count + 1, sizeof *cls->own);
    defs = PyMem_Calloc(count + 1, sizeof *defs);
    if (!cls->own || !defs) {
        PyErr_NoMemory();
        return -1;
    }
    for (i = 0; i < count; i++) {
        state_field *field = &cls->own[i];
        field->name = PyUnicode_InternFromString(rows[i].name);
        if (!field->name)
            return -1;
        field->offset = rows[i].offset;
        field->kind = rows[i].kind;
        if (rows[i].of >= 0)
            field->type = (PyTypeObject *)PyList_GET_ITEM(types, rows[i].of);
        defs[i].name = rows[i].name;
        defs[i].get = state_get;
        defs[i].set = state_set;
        defs[i].closure = field;
        if (state_add(type, rows[i].name, PyDescr_NewGetSet(type, &defs[i])))
            return -1;
    }
    for (; methods->ml_name; methods++)
        if (state_add(type, methods->ml_name, PyDescr_NewMethod(type, methods)))
            return -1;
    /* As if `tp_init` had been set when the type was made, so that subclasses call it directly. */
    type->tp_init = init;
    type->tp_vectorcall = call;
    if (state_add(type, "__init__", PyDescr_NewWrapper(type, slot, (void *)init)) ||
        state_add(type, "__rows__", PyDict_New()))
        return -1;
    PyType_Modified(type);
    return 0;
}

/* Take over an attribute of a Row, NULL for None. */
static int state_ask(PyObject *entry, const char *attribute, PyObject **answer)
{
    PyObject *value = PyObject_GetAttrString(entry, attribute);
    if (!value)
        return -1;
    *answer = value == Py_None ? NULL : value; /* None lives for ever; the others stay in the row */
    Py_DECREF(value);
    return 0;
}

/* Read a field's start and what a clone gets from its Row; `policies`: REQUIRED, KEEP, FRESH. */
static int state_declare(state_field *field, PyObject *entry, PyObject *policies)
{
    PyObject *make, *find, *value, *clone, *init;
    if (state_ask(entry, "make", &make) || state_ask(entry, "of", &find) ||
        state_ask(entry, "default", &value) || state_ask(entry, "clone", &clone) ||
        state_ask(entry, "init", &init))
        return -1;
    field->parameter = init == Py_True;
    field->value = make ? make : find ? find : value ? value : Py_None;
    if (make)
        field->start = make == (PyObject *)&PyList_Type   ? STATE_LIST
                       : make == (PyObject *)&PyDict_Type ? STATE_DICT
                                                          : STATE_MAKE;
    else if (find)
        field->start = STATE_FIND;
    else if (value == PyTuple_GET_ITEM(policies, 0))
        field->start = STATE_REQUIRED;
    else if (field->kind == STATE_OBJECT) {
        field->start = STATE_VALUE;
        if (state_check(field, field->value))
            return -1;
    }
    else {
        field->start = STATE_NUMBER;
        if (field->kind == STATE_DOUBLE) {
            double real = value ? PyFloat_AsDouble(value) : 0.0;
            memcpy(&field->number, &real, sizeof real);
        } else {
            field->number = value ? PyLong_AsLongLong(value) : 0;
        }
        if (PyErr_Occurred())
            return -1;
    }
    field->cloned = clone == PyTuple_GET_ITEM(policies, 1)   ? STATE_KEEP
                    : clone == PyTuple_GET_ITEM(policies, 2) ? STATE_FRESH
                                                             : STATE_COPY;
    field->copier = clone;
    Py_XINCREF(field->value);
    Py_XINCREF(field->copier);
    return 0;
}

static state_class *state_class_of(PyTypeObject *type)
{
    state_class *cls = state_classes;
    while (cls && cls->type != type)
        cls = cls->next;
    return cls;
}

/* Order the fields as the constructor takes them. */
static int state_order(state_class *cls)
{
    int i, turn, number = 0;
    cls->order = PyMem_Calloc(cls->count + 1, sizeof *cls->order);
    if (!cls->order) {
        PyErr_NoMemory();
        return -1;
    }
    for (turn = 0; turn < 3; turn++) {
        for (i = 0; i < cls->count; i++) {
            state_field *field = &cls->fields[i];
            int mine = !field->parameter ? 2 : field->start == STATE_REQUIRED ? 0 : 1;
            if (mine == turn)
                cls->order[number++] = field;
        }
        if (turn == 0)
            cls->required = number;
        if (turn == 1)
            cls->parameters = number;
    }
    if (cls->parameters > STATE_MOST) {
        PyErr_Format(PyExc_TypeError, "%.200s has more than %d parameters", cls->type->tp_name,
                     STATE_MOST);
        return -1;
    }
    return 0;
}

static int state_by_offset(const void *a, const void *b)
{
    Py_ssize_t first = (*(state_field *const *)a)->offset, second = (*(state_field *const *)b)->offset;
    return (first > second) - (first < second);
}

/* Whether a plan copies the field as bytes: numbers with a fixed start, or kept by a clone. */
static int state_in_span(const state_class *cls, const state_plan *plan, const state_field *field)
{
    if (field->kind == STATE_OBJECT)
        return 0;
    if (plan == &cls->start || plan == &cls->again)
        return field->start == STATE_NUMBER;
    return plan == &cls->copy || field->cloned == STATE_KEEP;
}

/* Make a plan: adjacent numbers form one span, the other fields keep their order. */
static int state_make_plan(state_class *cls, state_plan *plan)
{
    state_field **numbers = PyMem_Calloc(cls->count + 1, sizeof *numbers);
    state_span *span = plan->spans = PyMem_Calloc(cls->count + 1, sizeof *span);
    Py_ssize_t *none = plan->nones = PyMem_Calloc(cls->count + 1, sizeof *none);
    state_field **field = plan->fields = PyMem_Calloc(cls->count + 1, sizeof *field);
    int i, count = 0, starts = plan == &cls->start || plan == &cls->again;
    if (!numbers || !span || !none || !field) {
        PyMem_Free(numbers);
        PyErr_NoMemory();
        return -1;
    }
    for (i = 0; i < cls->count; i++) {
        state_field *one = plan == &cls->start ? cls->order[i] : &cls->fields[i];
        if (state_in_span(cls, plan, one))
            numbers[count++] = one;
        else if (plan == &cls->start && i < cls->parameters)
            continue;
        else if (starts && one->start == STATE_VALUE && one->value == Py_None)
            *none++ = one->offset;
        else
            *field++ = one;
    }
    qsort(numbers, count, sizeof *numbers, state_by_offset);
    for (i = 0; i < count; i++) {
        Py_ssize_t offset = numbers[i]->offset;
        Py_ssize_t size = (Py_ssize_t)state_size(numbers[i]);
        if (i && (span->offset + (Py_ssize_t)span->size + size - 1) / size * size == offset)
            span->size = offset + size - span->offset; /* at most padding between them */
        else {
            span += i > 0;
            span->offset = offset;
            span->size = size;
        }
    }
    PyMem_Free(numbers);
    return 0;
}

static int state_make_plans(state_class *cls)
{
    int i;
    cls->image = PyMem_Calloc(1, cls->type->tp_basicsize);
    if (!cls->image) {
        PyErr_NoMemory();
        return -1;
    }
    for (i = 0; i < cls->count; i++)
        if (state_in_span(cls, &cls->start, &cls->fields[i]) &&
            state_start((PyObject *)cls->image, &cls->fields[i]))
            return -1;
    return state_make_plan(cls, &cls->start) || state_make_plan(cls, &cls->again) ||
                   state_make_plan(cls, &cls->clone) || state_make_plan(cls, &cls->copy)
               ? -1
               : 0;
}

/* Bind the rows that a class has beside its bases' (name -> Row) to the type that was made for it.
 * Its bases have been bound before.
 */
static int state_bind(PyTypeObject *type, PyObject *rows, PyObject *policies)
{
    state_class *cls = state_class_of(type), *base = state_class_of(type->tp_base);
    int own = 0, inherited = base ? base->count : 0;
    PyObject *name, *entry;
    Py_ssize_t at = 0;
    state_field *fields;
    if (!cls || (base && !state_is_bound(base))) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "%.200s is no state class", type->tp_name);
        return -1;
    }
    fields = PyMem_Calloc(inherited + PyDict_GET_SIZE(rows) + 1, sizeof *fields);
    if (!fields) {
        PyErr_NoMemory();
        return -1;
    }
    if (base)
        memcpy(fields, base->fields, inherited * sizeof *fields);
    cls->count = inherited;
    while (PyDict_Next(rows, &at, &name, &entry)) {
        int i = 0;
        while (i < inherited && PyUnicode_Compare(fields[i].name, name) != 0)
            i++;
        if (i == inherited) { /* the rows come in the order of the table */
            i = cls->count++;
            fields[i] = cls->own[own++];
        }
        if (state_declare(&fields[i], entry, policies)) {
            PyMem_Free(fields);
            return -1;
        }
    }
    cls->fields = fields;
    return state_order(cls) || state_make_plans(cls) ? -1 : 0;
}

#endif
