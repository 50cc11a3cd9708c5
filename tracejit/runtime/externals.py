"""The C functions that native code calls: CPython's and the C library's.

They are handed to the linker by address, so that object code on disk holds none.
"""

from __future__ import annotations

import ctypes

from tracejit.codegen.words import External

_process = ctypes.CDLL(None)  # Python with the C library; both are loaded already

PyLong_AsSsize_t = External(ctypes.pythonapi, "PyLong_AsSsize_t", 1)
Py_DecRef = External(ctypes.pythonapi, "Py_DecRef", 1)
Py_IncRef = External(ctypes.pythonapi, "Py_IncRef", 1)
PyErr_Occurred = External(ctypes.pythonapi, "PyErr_Occurred", 0)
PyErr_SetString = External(ctypes.pythonapi, "PyErr_SetString", 2)
PyEval_RestoreThread = External(ctypes.pythonapi, "PyEval_RestoreThread", 1)
PyEval_SaveThread = External(ctypes.pythonapi, "PyEval_SaveThread", 0)
PyFrame_GetCode = External(ctypes.pythonapi, "PyFrame_GetCode", 1)
PyObject_Vectorcall = External(ctypes.pythonapi, "PyObject_Vectorcall", 4)
PyLong_AsUnsignedLongLongMask = External(ctypes.pythonapi, "PyLong_AsUnsignedLongLongMask", 1)
PyLong_FromLongLong = External(ctypes.pythonapi, "PyLong_FromLongLong", 1)

clock_gettime = External(_process, "clock_gettime", 2)
free = External(_process, "free", 1)
madvise = External(_process, "madvise", 3)
memcpy = External(_process, "memcpy", 3)
memset = External(_process, "memset", 3)
posix_memalign = External(_process, "posix_memalign", 3)
pthread_cond_broadcast = External(_process, "pthread_cond_broadcast", 1)
pthread_cond_init = External(_process, "pthread_cond_init", 2)
pthread_cond_wait = External(_process, "pthread_cond_wait", 2)
pthread_create = External(_process, "pthread_create", 4)
pthread_detach = External(_process, "pthread_detach", 1)
pthread_mutex_init = External(_process, "pthread_mutex_init", 2)
pthread_mutex_lock = External(_process, "pthread_mutex_lock", 1)
pthread_mutex_unlock = External(_process, "pthread_mutex_unlock", 1)
pthread_sigmask = External(_process, "pthread_sigmask", 3)
sched_yield = External(_process, "sched_yield", 0)
syscall = External(_process, "syscall", 5)
