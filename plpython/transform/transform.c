/*
 * transform.c
 *	  hart.matrix ↔ numpy array of float32 (rows, columns), for PL/Python.
 *
 * Both directions copy once, between a matrix and an array that owns its memory: PL/Python frees its scratch
 * memory before the function's next argument is converted, so an array must not point into a matrix.
 */
#include <Python.h>

#include "../../src_c/matrix.h"

#include "miscadmin.h"

PG_MODULE_MAGIC;

#define MATRIX_HINT "Return a numpy array, or rows of equal length, of real numbers."

PG_FUNCTION_INFO_V1(hart_matrix_to_numpy);
PG_FUNCTION_INFO_V1(hart_numpy_to_matrix);

/* numpy, once it is loaded in this session */
static PyObject *numpy = NULL;

/* A copy of a Python string attribute; NULL without one. Clears Python's error. */
static char *
string_attribute(PyObject *object, const char *name)
{
	PyObject   *value = object ? PyObject_GetAttrString(object, name) : NULL;
	const char *text = value && PyUnicode_Check(value) ? PyUnicode_AsUTF8(value) : NULL;
	char	   *copy = text ? pstrdup(text) : NULL;

	Py_XDECREF(value);
	PyErr_Clear();
	return copy;
}

/* Report the Python exception that is set as a PostgreSQL error; `message` unless the exception brings its own. */
static void
raise_python_error(int sqlstate, const char *message, const char *otherwise)
{
	PyObject   *type,
			   *value,
			   *traceback,
			   *text;
	const char *utf8;
	char	   *detail,
			   *own_message,
			   *own_sqlstate,
			   *hint;

	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	text = value ? PyObject_Str(value) : NULL;
	utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
	detail = pstrdup(utf8 ? utf8 : "unknown Python error");
	PyErr_Clear();
	/* the package's own HartError */
	own_message = string_attribute(value, "message");
	own_sqlstate = string_attribute(value, "sqlstate");
	hint = string_attribute(value, "hint");
	if (own_message)
	{
		char	   *own_detail = string_attribute(value, "detail");

		message = own_message;
		detail = own_detail;
	}
	if (own_sqlstate && strlen(own_sqlstate) == 5)
		sqlstate = MAKE_SQLSTATE(own_sqlstate[0], own_sqlstate[1], own_sqlstate[2], own_sqlstate[3], own_sqlstate[4]);
	Py_XDECREF(text);
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(traceback);
	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg("%s", message),
			 detail ? errdetail("%s", detail) : 0,
			 errhint("%s", hint ? hint : otherwise)));
}

/* Put the extension's own folder of packages first in sys.path, unless it is there. False: Python error set. */
static bool
add_python_path(void)
{
	char	   *path = psprintf("%s/hartonomous/python", pkglib_path);
	PyObject   *folder = PyUnicode_DecodeFSDefault(path);
	PyObject   *sys_path = PySys_GetObject("path");	/* borrowed */
	int			found;

	pfree(path);
	if (folder == NULL || sys_path == NULL)
	{
		Py_XDECREF(folder);
		return false;
	}
	found = PySequence_Contains(sys_path, folder);
	if (found == 0)
		found = PyList_Insert(sys_path, 0, folder);
	Py_DECREF(folder);
	return found >= 0;
}

/* Load numpy from the extension's folder, after the package has checked it and set its environment. */
static void
load_numpy(void)
{
	PyObject   *package,
			   *checked;

	if (numpy != NULL)
		return;
	package = add_python_path() ? PyImport_ImportModule("hartonomous_server") : NULL;
	if (package == NULL)
	{
		PyErr_Clear();
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("Python package hartonomous_server cannot be loaded"),
				 errdetail("It was looked for in %s/hartonomous/python.", pkglib_path),
				 errhint("Run \"make install\" of hartonomous for this server again.")));
	}
	checked = PyObject_CallMethod(package, "check_packages", NULL);
	Py_DECREF(package);
	if (checked != NULL)
	{
		Py_DECREF(checked);
		numpy = PyImport_ImportModule("numpy");
	}
	if (numpy == NULL)
		raise_python_error(ERRCODE_UNDEFINED_FILE, "Python package numpy cannot be loaded",
						   "Run \"make install\" of hartonomous for this server again.");
}

/* FROM SQL: a new array, owned by the caller. */
Datum
hart_matrix_to_numpy(PG_FUNCTION_ARGS)
{
	HartMatrix *m = (HartMatrix *) PG_DETOAST_DATUM(PG_GETARG_DATUM(0));
	PyObject   *array;
	Py_buffer	view;

	load_numpy();
	array = PyObject_CallMethod(numpy, "empty", "((nn)s)", (Py_ssize_t) m->rows, (Py_ssize_t) m->cols, "float32");
	if (array == NULL)
		raise_python_error(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, "could not make a numpy array", "Run fewer or smaller statements at once.");
	if (PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0)
	{
		Py_DECREF(array);
		raise_python_error(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, "could not fill a numpy array", "Run fewer or smaller statements at once.");
	}
	Assert(view.len == (Py_ssize_t) (sizeof(float) * hart_matrix_elements(m)));
	memcpy(view.buf, m->data, view.len);
	PyBuffer_Release(&view);
	PG_FREE_IF_COPY(m, 0);
	PG_RETURN_POINTER(array);
}

/* TO SQL: anything that numpy turns into an array of float32 with one dimension (one row) or two. */
Datum
hart_numpy_to_matrix(PG_FUNCTION_ARGS)
{
	PyObject   *object = (PyObject *) PG_GETARG_POINTER(0);
	PyObject   *array;
	Py_buffer	view;
	int			ndim;
	Py_ssize_t	rows,
				cols;
	size_t		size;
	HartMatrix *m;

	load_numpy();
	array = PyObject_CallMethod(numpy, "asarray", "Os", object, "float32");
	if (array == NULL)
		raise_python_error(ERRCODE_DATATYPE_MISMATCH, "Python object is not a matrix of numbers", MATRIX_HINT);
	/* asarray keeps an array that is not contiguous, ascontiguousarray would make one of no dimension a vector */
	if (PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS) < 0)
	{
		PyObject   *contiguous;

		PyErr_Clear();
		contiguous = PyObject_CallMethod(numpy, "ascontiguousarray", "O", array);
		Py_DECREF(array);
		array = contiguous;
		if (array == NULL || PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS) < 0)
		{
			Py_XDECREF(array);
			raise_python_error(ERRCODE_DATATYPE_MISMATCH, "Python object is not a matrix of numbers", MATRIX_HINT);
		}
	}

	ndim = view.ndim;
	rows = ndim == 2 ? view.shape[0] : 1;
	cols = ndim == 2 ? view.shape[1] : ndim == 1 ? view.shape[0] : 0;
	size = offsetof(HartMatrix, data) + view.len;
	if ((ndim != 1 && ndim != 2) || rows > PG_INT32_MAX || cols > PG_INT32_MAX || !AllocSizeIsValid(size))
	{
		PyBuffer_Release(&view);
		Py_DECREF(array);
		if (ndim != 1 && ndim != 2)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("Python array of %d dimensions is not a matrix", ndim),
					 errhint("Return an array of one dimension, which becomes one row, or of two.")));
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("matrix of %zd rows and %zd columns is too large", rows, cols),
				 errhint("A matrix holds at most %zu numbers.", (size_t) HART_MATRIX_MAX_ELEMENTS)));
	}

	/* without an error when memory is short, since the array must be released first */
	m = palloc_extended(size, MCXT_ALLOC_NO_OOM);
	if (m != NULL)
	{
		SET_VARSIZE(m, size);
		m->rows = (int32) rows;
		m->cols = (int32) cols;
		m->in_large_memory = 0;
		memcpy(m->data, view.buf, view.len);
	}
	PyBuffer_Release(&view);
	Py_DECREF(array);
	if (m == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	PG_RETURN_POINTER(m);
}
