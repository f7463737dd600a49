/*
 * Makes objects immortal, so that a forked process uses them without writing to their pages.
 *
 * References to an immortal object are not counted (PEP 683). Everything that the spawner has imported becomes immortal
 * before it forks: a pod server then copies a page only where something really changes.
 *
 * This is a module of our own interpreter (hack/build-python.sh), as only its own headers know what an immortal object
 * is. An object that becomes immortal keeps everything it refers to for as long as the process lives.
 */
#include <Python.h>
#include <stdlib.h>

#if PY_VERSION_HEX >> 16 != 0x030d || defined(Py_GIL_DISABLED)
#error "immortal objects are known of CPython 3.13 with a GIL"
#endif

/* Objects that are immortal and not yet traversed. */
struct todo {
    PyObject **objects;
    size_t count, room;
    Py_ssize_t made;
};

static int make(PyObject *op, void *given)
{
    struct todo *todo = given;
    PyObject **more;

    if (!op || _Py_IsImmortal(op))
        return 0;
    if (todo->count == todo->room) {
        size_t room = todo->room ? 2 * todo->room : 4096;

        if (!(more = realloc(todo->objects, room * sizeof *more)))
            return -1;
        todo->objects = more;
        todo->room = room;
    }
    todo->objects[todo->count++] = op;
    todo->made++;
    Py_SET_REFCNT(op, _Py_IMMORTAL_REFCNT);
    return 0;
}

/* The garbage collector does not traverse code objects, which cannot be part of a cycle (Objects/codeobject.c). */
static int look_into_code(PyCodeObject *code, struct todo *todo)
{
    return make(code->co_consts, todo) || make(code->co_names, todo) || make(code->co_exceptiontable, todo) ||
        make(code->co_localsplusnames, todo) || make(code->co_localspluskinds, todo) ||
        make(code->co_filename, todo) || make(code->co_name, todo) || make(code->co_qualname, todo) ||
        make(code->co_linetable, todo);
}

static int look_into(PyObject *op, struct todo *todo)
{
    if (PyCode_Check(op))
        return look_into_code((PyCodeObject *)op, todo);
    return PyObject_IS_GC(op) && Py_TYPE(op)->tp_traverse ? Py_TYPE(op)->tp_traverse(op, make, todo) : 0;
}

static PyObject *make_immortal(PyObject *module, PyObject *objects)
{
    struct todo todo = {NULL, 0, 0, 0};
    Py_ssize_t i, count;
    int failed = 0;

    (void)module;
    if (!PyList_CheckExact(objects))
        return PyErr_Format(PyExc_TypeError, "objects: found %s, allowed a list", Py_TYPE(objects)->tp_name);
    count = PyList_GET_SIZE(objects);
    for (i = 0; i < count && !failed; i++) {
        PyObject *op = PyList_GET_ITEM(objects, i);

        failed = make(op, &todo) || look_into(op, &todo); /* traverse also one that was immortal before */
        while (!failed && todo.count)
            failed = look_into(todo.objects[--todo.count], &todo);
    }
    free(todo.objects);
    return failed ? PyErr_NoMemory() : PyLong_FromSsize_t(todo.made);
}

static PyMethodDef methods[] = {
    {"make_immortal", make_immortal, METH_O,
     PyDoc_STR("Make the objects of a list immortal, and all that is reachable from them; return how many became so.")},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_immortal", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__immortal(void)
{
    return PyModule_Create(&definition);
}
