/* SPDX-License-Identifier: MIT */
#include "client/python.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* Python.h is needed by nobody who builds this. */
#define PYTHON(X)                                                 \
	X(PyGILState_GetThisThreadState, void *, (void))          \
	X(PyGILState_Check, int, (void))                          \
	X(PyGILState_Ensure, int, (void))                         \
	X(PyGILState_Release, void, (int))                        \
	X(PyErr_Fetch, void, (void **, void **, void **))         \
	X(PyErr_Restore, void, (void *, void *, void *))          \
	X(PyEval_GetFrame, void *, (void))                        \
	X(PyFrame_GetCode, void *, (void *))                      \
	X(PyFrame_GetBack, void *, (void *))                      \
	X(PyFrame_GetLineNumber, int, (void *))                   \
	X(PyObject_GetAttrString, void *, (void *, const char *)) \
	X(PyUnicode_AsUTF8, const char *, (void *))               \
	X(Py_IncRef, void, (void *))                              \
	X(Py_DecRef, void, (void *))

#define FIELD(name, type, arguments) type(*name) arguments;
static struct {
	PYTHON(FIELD)
} py;
#undef FIELD
static bool is_there;
/* What faulthandler calls; since Python 3.13 nobody else may. */
static void (*dump)(int fd, void *thread);

void python_prepare(void)
{
	if (is_there)
		return;
#define FIELD(name, type, arguments)                             \
	py.name = (type(*) arguments)dlsym(RTLD_DEFAULT, #name); \
	if (!py.name)                                            \
		return;
	PYTHON(FIELD)
#undef FIELD
	dump = (void (*)(int, void *))dlsym(RTLD_DEFAULT, "_Py_DumpTraceback");
	is_there = true;
}

static void stack_by_dump(void *thread, char *text, size_t size)
{
	int fd = memfd_create("fixd-stack", MFD_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return;
	dump(fd, thread);
	n = pread(fd, text, size - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	close(fd);
}

static void *attribute_of(void *object, const char *name)
{
	return object ? py.PyObject_GetAttrString(object, name) : NULL;
}

static const char *string_of(void *object)
{
	const char *s = object ? py.PyUnicode_AsUTF8(object) : NULL;

	return s ? s : "?";
}

static void release(void *object)
{
	if (object)
		py.Py_DecRef(object);
}

static size_t put_frame(void *frame, char *text, size_t size)
{
	void *code = py.PyFrame_GetCode(frame), *file = attribute_of(code, "co_filename"), *name = attribute_of(code, "co_name");
	int n = snprintf(text, size, "  File \"%s\", line %d in %s\n", string_of(file), py.PyFrame_GetLineNumber(frame), string_of(name));

	release(name);
	release(file);
	release(code);
	return n > 0 && (size_t)n < size ? (size_t)n : 0;
}

/* As if the C function had called back: it may. */
static void stack_by_frames(char *text, size_t size)
{
	int lock = py.PyGILState_Ensure();
	void *error[3], *frame;
	size_t n;

	py.PyErr_Fetch(&error[0], &error[1], &error[2]);
	frame = py.PyEval_GetFrame();
	if (frame)
		py.Py_IncRef(frame);
	while (frame && (n = put_frame(frame, text, size)) > 0) {
		void *back = py.PyFrame_GetBack(frame);

		release(frame);
		frame = back;
		text += n;
		size -= n;
	}
	release(frame);
	*text = '\0';
	py.PyErr_Restore(error[0], error[1], error[2]);
	py.PyGILState_Release(lock);
}

void python_stack(char *text, size_t size)
{
	void *thread = is_there ? py.PyGILState_GetThisThreadState() : NULL;

	*text = '\0';
	/* The dump is of all frames, in small pieces, each of them a system call. But it does without the lock, for which one might wait here. */
	if (thread && dump && !py.PyGILState_Check())
		stack_by_dump(thread, text, size);
	else if (thread)
		stack_by_frames(text, size);
}
