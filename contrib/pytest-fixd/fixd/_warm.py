# SPDX-License-Identifier: MIT
"""The template of fixd-python: an interpreter that imports what the last runs have imported, and is then forked as `python WORDS`.

Of what is installed and of Python itself; the project's own modules are always imported anew. As a script it becomes that
interpreter, with the environment of whoever has asked first.
"""

import json
import os
import sys

FORKED = "_fixd_forked"  # in sys: this process is a fork of a template
# They do something to the process, or to what is imported after them.
_NOT_WARM = {"__main__", "readline", "rlcompleter", "sitecustomize", "usercustomize", "faulthandler", "this", "antigravity"}
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_BOOT = "import sys; sys.path[:0] = [{package!r}]; import fixd._warm as w; del sys.path[0]; w.begin({spec!r})"


def _exec_interpreter(path):
    with open(path) as f:
        spec = json.load(f)
    # What the daemon says to its template.
    said = {n: v for n, v in os.environ.items() if n.startswith("FIXD_") or n == "NOTIFY_SOCKET"}
    boot = _BOOT.format(package=spec["package"], spec=path)
    os.execve(spec["python"], [spec["python"], *spec["flags"], "-c", boot], {**spec["environment"], **said})


def _asks_for_project():
    """Whether it is code of the project that looks at a variable now."""
    from fixd import _source

    frame = sys._getframe(3)  # the caller of os.environ
    while frame is not None and os.path.basename(frame.f_code.co_filename) in ("os.py", "<frozen os>", "_collections_abc.py", "<frozen _collections_abc>"):
        frame = frame.f_back
    return frame is not None and _source.is_project(os.path.realpath(frame.f_code.co_filename))


class _Recorder:
    """os.environ, while modules are imported: what they read is part of what they are."""

    def __init__(self, read=(), of_project=False):
        self.read = set(read)
        found, kind = self.read, type(os.environ)

        def note(name):
            if not of_project or _asks_for_project():
                found.add(name)

        class Environment(kind):
            def __getitem__(self, name):
                note(os.fsdecode(name))
                return kind.__getitem__(self, name)

            def __contains__(self, name):
                note(os.fsdecode(name))
                return kind.__contains__(self, name)

            def __iter__(self):
                note("*")
                return kind.__iter__(self)

        self._kind, self._own = kind, Environment

    def __enter__(self):
        os.environ.__class__ = self._own
        return self

    def __exit__(self, *_):
        os.environ.__class__ = self._kind


class _LeftOut(BaseException):
    """No error that a module would handle."""


class _Fence:
    """Finds nothing, and stops who looks for what pytest is to import first."""

    def __init__(self, left_out):
        self._left_out = set(left_out)

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self._left_out:
            raise _LeftOut(f"{name} is left to pytest")


def _import(names, left_out):
    import importlib

    fence = _Fence(left_out)
    sys.meta_path.insert(0, fence)
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as e:  # it is imported again, and says so, where it belongs
            print(f"fixd-python: {name} is not imported before: {type(e).__name__}: {e}", file=sys.stderr)
    sys.meta_path.remove(fence)


def _is_installed(module):
    """Of Python or of a package, or ours; what something else than Python has loaded is not the same when it is imported again."""
    from importlib import machinery

    loader, path = getattr(module, "__loader__", None), getattr(module, "__file__", None)
    if loader in (machinery.BuiltinImporter, machinery.FrozenImporter):
        return True
    if type(loader) not in (machinery.SourceFileLoader, machinery.ExtensionFileLoader) or not path:
        return False
    import sysconfig

    return "-packages" + os.sep in path or path.startswith((_HERE, sysconfig.get_path("stdlib") + os.sep, sysconfig.get_path("platstdlib") + os.sep))


def _loaded_by_others():
    """Packages with a module that is not as its file has it: pytest rewrites the assertions of its plugins, and must find them not imported."""
    return {name.split(".")[0] for name, module in list(sys.modules.items()) if "-packages" + os.sep in (getattr(module, "__file__", None) or "")
            and type(getattr(module, "__loader__", None)).__module__ == "_pytest.assertion.rewrite"}


def _modules(left_out):
    """Lines of a record: the modules in the order in which they were imported."""
    lines = []
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if name.split(".")[0] in left_out or getattr(spec, "name", None) != name or not _is_installed(module):
            continue
        path = getattr(module, "__file__", None) or ""
        lines.append(f"{name} {path if '-packages' + os.sep in path else ''}".rstrip())
    return lines


def _read(path):
    try:
        with open(path, errors="surrogateescape") as f:
            return f.read().splitlines()
    except OSError:
        return []


def _write(path, lines):
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w", errors="surrogateescape") as f:
        f.write("\n".join([*lines, ""]))
    os.rename(draft, path)


def _note_modules(path, tried):
    """At the end of a run: what the next one is forked with. Of processes that share a record each may have others."""
    import fcntl

    by_others = _loaded_by_others()
    left_out = _NOT_WARM | by_others

    def stays(name):
        return (name not in tried or name in sys.modules) and name.split(".")[0] not in left_out

    try:
        with open(f"{path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = _read(path)
            lines = {line.split(" ")[0]: line for line in [*before, *_modules(left_out), *(f"!{n}" for n in by_others)] if stays(line.split(" ")[0])}
            # The order alone is no reason for another template.
            if set(lines.values()) != set(before):
                _write(path, lines.values())
    except OSError:
        pass  # the next one is as this one


def _main_module(**names):
    import types

    module = types.ModuleType("__main__")
    vars(module).update({"__builtins__": sys.modules["builtins"], "__loader__": None, "__annotations__": {}, **names})
    sys.modules["__main__"] = module
    return vars(module)


def _run_script(name):
    import importlib.machinery
    import io

    path = os.path.abspath(name)
    with io.open_code(path) as f:
        code = compile(f.read(), path, "exec", dont_inherit=True)
    if not _has_safe_path():
        sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    exec(code, _main_module(__file__=path, __cached__=None, __loader__=importlib.machinery.SourceFileLoader("__main__", path)))


def _run_text(text):
    if not _has_safe_path():
        sys.path.insert(0, "")
    code = compile(text, "<string>", "exec", dont_inherit=True)
    register = getattr(sys.modules.get("linecache"), "_register_code", None)
    if register is not None:
        register(code, text, "<string>")
    exec(code, _main_module())


def _run_module(name):
    import runpy

    if not _has_safe_path():
        sys.path.insert(0, os.getcwd())
    _main_module()
    runpy._run_module_as_main(name)


def _has_safe_path():
    return sys.flags.isolated or getattr(sys.flags, "safe_path", False)


def _forget_texts():
    """From Python 3.13 on tracebacks show what stands behind -c: the template's is none of the program's."""
    getattr(sys.modules.get("linecache"), "_interactive_cache", {}).clear()


def _run(line):
    _forget_texts()
    sys.argv = [line.name if line.kind == "script" else line.kind, *line.arguments]
    {"script": _run_script, "-m": _run_module, "-c": _run_text}[line.kind](line.name)


def _end_as_interrupted():
    """As Python does it: by the signal, so that others see it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _run_as_program(line):
    """What goes wrong is told without our frames."""
    try:
        _run(line)
    except SystemExit:
        raise
    except BaseException as e:
        trace = e.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        sys.excepthook(type(e), e.with_traceback(trace), trace)
        if isinstance(e, KeyboardInterrupt):
            import atexit

            atexit.register(_end_as_interrupted)
        sys.exit(1)


def _leave(line):
    """The stack below belongs to the template, and stays: the process ends here, as Python ends it."""
    import atexit
    import ctypes
    import threading

    status = 0
    try:
        _run_as_program(line)
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        if status == 1 and not isinstance(e.code, int):
            print(e.code, file=sys.stderr)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            status = status or 120
    ctypes.PyDLL(None).exit(status & 0xFF)


def _begin_fork(spec, words):
    """The command line of the program."""
    import atexit
    import importlib

    from fixd import _command_line

    setattr(sys, FORKED, True)
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [sys.executable, *words]
    importlib.invalidate_caches()
    pid = os.getpid()
    atexit.register(lambda: os.getpid() == pid and _note_modules(spec["record"], set(spec["modules"])))
    return _command_line.CommandLine(words)


def _begin_live(spec, recorder):
    from fixd import _checkpoint, _live

    # Fixtures of the run have the daemon of the run.
    os.environ.pop("FIXD_SOCKET", None)

    def stop(begin_fork):
        recorder.__exit__()
        _note_readings(spec, recorder)
        words = _checkpoint.checkpoint()
        begin_fork()
        _leave(_begin_fork(spec, words))

    with recorder:
        _live.prepare(spec, stop)


def _note_readings(spec, recorder):
    from fixd import _python

    read = sorted(recorder.read)
    if spec["readings"]:
        _write(spec["readings"], [_python.print_of(spec["environment"], read), *read])


def begin(path):
    """In the interpreter; returns in the template at its end, and in a fork after the program."""
    from fixd import _checkpoint

    with open(path) as f:
        spec = json.load(f)
    if sys.path and sys.path[0] == "":
        del sys.path[0]  # of -c
    with _Recorder() as recorder:
        _import(spec["modules"], spec["left_out"])
    if spec["live"]:
        _begin_live(spec, _Recorder(recorder.read, of_project=True))
        return
    _note_readings(spec, recorder)
    words = _checkpoint.checkpoint()
    _run_as_program(_begin_fork(spec, words))


if __name__ == "__main__":
    _exec_interpreter(sys.argv[1])
