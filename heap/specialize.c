/*
 * Has the interpreter specialize code, or leave all code as it is.
 *
 * The adaptive interpreter (PEP 659) counts in the instructions that it executes and replaces them, so a forked process
 * would copy each page of code that it uses. Code that was specialized before the fork is executed as such all the
 * same, and is only read.
 *
 * This is a module of our own interpreter: hack/build-python.sh makes the evaluation loop heed the variable.
 */
#include <Python.h>

int _Py_specializes = 1;

static PyObject *set_specializing(PyObject *module, PyObject *wanted)
{
    int is_wanted = PyObject_IsTrue(wanted);

    (void)module;
    if (is_wanted < 0)
        return NULL;
    _Py_specializes = is_wanted;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"set_specializing", set_specializing, METH_O,
     PyDoc_STR("Whether the interpreter specializes code from now on. It does at first.")},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_specialize", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__specialize(void)
{
    return PyModule_Create(&definition);
}
