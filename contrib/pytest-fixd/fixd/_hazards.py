# SPDX-License-Identifier: MIT
"""The audit of a checkpoint, as far as Python's objects tell more than the system does: what does not survive a fork, by name.

The kinds and the rules are those of libfixd (wire/fork.h), which looks for the rest.
"""

from __future__ import annotations

import ast
import gc
import os
import sys
import sysconfig
import threading
import types
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from ._objects import file_of, is_a, names_of

RULES = ("error", "warn", "allow")
_FRAMES_SHOWN = 3
_HELD_BY_MAX = 3
_LIBRARY = tuple(p + os.sep for p in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")} if p)
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Hazard:
    """Something that a fork would not have, or have in common with others."""

    def __init__(self, kind: str, sentence: str, fds: Iterable[int] = ()):
        self.kind, self.sentence, self.fds = kind, sentence, list(fds)


# Where something stands in the program.

def is_library(path: str) -> bool:
    return path.startswith(_LIBRARY) and "-packages" not in path or path.startswith("<frozen")


def _targets(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Assign):
        yield from node.targets
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
        yield node.target
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        yield from (item.optional_vars for item in node.items if item.optional_vars is not None)


def _line_of(path: str, name: str, first: int = 1, last: Optional[int] = None) -> Optional[int]:
    """Where a name was given its value: the last such line of these."""
    try:
        with open(path, "rb") as f:
            tree = ast.parse(f.read())
    except (OSError, SyntaxError, ValueError):
        return None
    lines = [node.lineno for node in ast.walk(tree) for target in _targets(node)  # type: ignore[attr-defined]
             for n in ast.walk(target) if isinstance(n, ast.Name) and n.id == name]
    lines = [n for n in lines if n >= first and (last is None or n <= last)]
    return max(lines) if lines else None


def _named(name: str, path: Optional[str], line: Optional[int]) -> str:
    return f"'{name}'" + (f" ({path}{f':{line}' if line else ''})" if path else "")


def _in_frames(thing: Any) -> Optional[str]:
    frame: Optional[types.FrameType] = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_HERE):
            for name, value in list(frame.f_locals.items()):
                if value is thing:
                    return _named(name, code.co_filename, _line_of(code.co_filename, name, code.co_firstlineno, frame.f_lineno))
        frame = frame.f_back
    return None


def _in_modules(thing: Any) -> Optional[str]:
    for module_name, module in list(sys.modules.items()):
        path = file_of(module)
        if str(path).startswith(_HERE):
            continue
        for name, value in list(names_of(module).items()):
            if value is thing:
                return _named(f"{module_name}.{name}", path, _line_of(path, name) if path else None)
    return None


def _name(thing: Any, depth: int = _HELD_BY_MAX) -> Optional[str]:
    """A name by which the program knows it."""
    found = _in_frames(thing) or _in_modules(thing)
    if found or depth == 0:
        return found
    for holder in gc.get_referrers(thing):
        if is_a(holder, (types.FrameType, types.ModuleType)) or _is_own(holder):
            continue
        found = _name(holder, depth - 1)
        if found:
            return found if found.startswith("held by ") else f"held by {found}"
    return None


def _is_own(holder: Any) -> bool:
    """A list that the audit itself has made."""
    return is_a(holder, list) and bool(_made) and any(holder is m for m in _made)


_made: List[Any] = []


def _where(thing: Any) -> str:
    """To be put behind what it is; nothing if nobody knows."""
    tracing = sys.modules.get("tracemalloc")
    trace = tracing.get_object_traceback(thing) if tracing is not None and tracing.is_tracing() else None
    if trace:
        return f", made at {trace[-1].filename}:{trace[-1].lineno},"
    found = _name(thing)
    if found is None:
        return ""
    return f", {found}," if found.startswith("held by ") else f" {found}"


def _stack(thread: threading.Thread) -> str:
    """What it is in: its innermost frame, and those of the program."""
    frame = sys._current_frames().get(thread.ident or 0)
    shown: List[str] = []
    while frame is not None and len(shown) < _FRAMES_SHOWN:
        path = frame.f_code.co_filename
        if not shown or not is_library(path):
            shown.append(f"{frame.f_code.co_name}() ({os.path.basename(path) if is_library(path) else path}:{frame.f_lineno})")
        frame = frame.f_back
    return ", called by ".join(shown) or "nothing of Python"


# What is looked for, by kinds of objects.

class _Objects:
    """All objects there are, by the classes that somebody asks for."""

    def __init__(self) -> None:
        self._all = [o for o in gc.get_objects() if o is not self]
        _made[:] = [self._all]

    def of(self, module: str, *names: str) -> List[Any]:
        """Of classes of a module, if that was loaded: nobody else has any."""
        loaded = sys.modules.get(module)
        classes = tuple(c for c in (getattr(loaded, n, None) for n in names) if isinstance(c, type))
        found = [o for o in self._all if is_a(o, classes)] if classes else []
        _made.append(found)
        return found

    def with_methods(self, *names: str) -> List[Any]:
        known: Dict[type, bool] = {}
        found = []
        for o in self._all:
            kind = type(o)
            if kind not in known:
                known[kind] = kind is not type and all(callable(getattr(kind, n, None)) for n in names)
            if known[kind]:
                found.append(o)
        _made.append(found)
        return found

    def close(self) -> None:
        self._all.clear()
        _made.clear()


class _Finder:
    def __init__(self) -> None:
        self.objects = _Objects()
        self.found: List[Hazard] = []
        self.told_threads: set = set()
        self.told_processes: set = set()
        self.told_fds: set = set()

    def add(self, kind: str, sentence: str, fds: Iterable[int] = ()) -> None:
        fds = [fd for fd in fds if fd is not None and fd >= 0]
        self.told_fds.update(fds)
        self.found.append(Hazard(kind, sentence, fds))


def _thread_pools(f: _Finder) -> None:
    for pool in f.objects.of("concurrent.futures.thread", "ThreadPoolExecutor"):
        alive = [t for t in pool._threads if t.is_alive()]
        if alive:
            f.told_threads.update(alive)
            f.add("thread", f"a fork would not have the {len(alive)} thread(s) of the ThreadPoolExecutor{_where(pool)} "
                  f"({', '.join(sorted(t.name for t in alive))}); shutdown() ends them")


def _process_pools(f: _Finder) -> None:
    for pool in f.objects.of("concurrent.futures.process", "ProcessPoolExecutor"):
        processes = list((pool._processes or {}).values())
        if processes:
            f.told_processes.update(processes)
            f.told_threads.add(pool._executor_manager_thread)
            f.add("child", f"the {len(processes)} process(es) of the ProcessPoolExecutor{_where(pool)} would be none of a fork's; shutdown() "
                  "ends them")
    for pool in f.objects.of("multiprocessing.pool", "Pool"):
        handlers = [getattr(pool, n, None) for n in ("_worker_handler", "_task_handler", "_result_handler")]
        if not any(h is not None and h.is_alive() for h in handlers):
            continue
        workers = list(pool._pool or ())
        f.told_threads.update(h for h in handlers if h is not None)
        if type(pool).__name__ == "ThreadPool":
            f.told_threads.update(workers)
            f.add("thread", f"a fork would not have the {len(workers)} thread(s) of the ThreadPool{_where(pool)}; terminate() and join() end them")
            continue
        f.told_processes.update(workers)
        f.add("child", f"the {len(workers)} process(es) of the multiprocessing.Pool{_where(pool)} would be none of a fork's; terminate() and "
              "join() end them")


def _threads(f: _Finder) -> None:
    for thread in threading.enumerate():
        if thread in f.told_threads or thread is threading.current_thread():
            continue
        f.add("thread", f"a fork would not have the thread '{thread.name}', which is in {_stack(thread)}")


def _processes(f: _Finder) -> None:
    for process in f.objects.of("subprocess", "Popen"):
        if process.returncode is None and getattr(process, "_child_created", False) and process.poll() is None:
            words = process.args if isinstance(process.args, (str, bytes)) else " ".join(map(str, process.args))
            pipes = [p.fileno() for p in (process.stdin, process.stdout, process.stderr) if p is not None and not p.closed]
            f.add("child", f"the process of subprocess.Popen({words!r}){_where(process)} would be none of a fork's", pipes)
    for process in list(getattr(sys.modules.get("multiprocessing.process"), "_children", ())):
        if process not in f.told_processes and process.is_alive():
            f.add("child", f"the multiprocessing.Process '{process.name}'{_where(process)} would be none of a fork's")


def _loops(f: _Finder) -> None:
    for loop in f.objects.of("asyncio.base_events", "BaseEventLoop"):
        if loop.is_closed():
            continue
        parts = [getattr(loop, n, None) for n in ("_selector", "_ssock", "_csock")]
        f.add("epoll", f"all forks would share the event loop of asyncio{_where(loop)}; close() it", [p.fileno() for p in parts if p is not None])
    for selector in f.objects.of("selectors", "EpollSelector"):
        try:
            fd = selector.fileno()
        except ValueError:
            continue
        if fd >= 0 and fd not in f.told_fds:
            f.add("epoll", f"all forks would share the selector{_where(selector)} (epoll)", [fd])


def _database_files(f: _Finder) -> None:
    for connection in f.objects.of("sqlite3", "Connection"):
        try:
            files = [row[2] for row in connection.execute("PRAGMA database_list") if row[2]]
        except Exception:
            continue  # it is closed
        if files:
            f.add("lock", f"all forks would share the connection of sqlite3{_where(connection)} to {', '.join(files)}, and not have its locks; one "
                  "in memory may stay", _open_at(files))


def _open_at(files: Sequence[str]) -> List[int]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(tuple(os.path.realpath(p) for p in files)):
            found.append(int(fd))
    return found


def _database_connections(f: _Finder) -> None:
    for connection in f.objects.with_methods("cursor", "commit", "rollback", "fileno"):
        try:
            fd = connection.fileno()
        except Exception:
            continue  # it is closed
        kind = f"{type(connection).__module__}.{type(connection).__name__}"
        if isinstance(fd, int) and fd >= 0:
            f.add("socket", f"all forks would share the database connection{_where(connection)} ({kind}); close it, and connect after the "
                  "checkpoint", [fd])


def _address(get: Callable[[], Any]) -> str:
    try:
        address = get()
    except (OSError, ValueError):
        return ""
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else os.fsdecode(address)


def _sockets(f: _Finder) -> None:
    for sock in f.objects.of("socket", "socket"):
        fd = sock.fileno()
        if fd < 0 or fd in f.told_fds:
            continue
        own, peer = _address(sock.getsockname), _address(sock.getpeername)
        f.add("socket", f"all forks would share the socket{_where(sock)}{f' of {own}' if own else ''}"
              f"{f', connected to {peer}' if peer else ''}", [fd])


def _shared_memory(f: _Finder) -> None:
    for block in f.objects.of("multiprocessing.shared_memory", "SharedMemory"):
        if getattr(block, "_mmap", None) is not None:
            f.add("mapping", f"all forks would share the SharedMemory{_where(block)} '{block.name}'", [block._fd])


# In this order: those above know of what those below would tell, too.
_FINDERS: Tuple[Callable[[_Finder], None], ...] = (
    _thread_pools, _process_pools, _threads, _processes, _loops, _database_files, _database_connections, _sockets, _shared_memory)


def find() -> List[Hazard]:
    f = _Finder()
    try:
        for finder in _FINDERS:
            finder(f)
    finally:
        f.objects.close()
    return f.found


def _rule_for(kind: str, rules: str) -> str:
    """The last one that fits."""
    chosen = "error"
    for entry in rules.split(","):
        of, _, rule = entry.rpartition(":")
        if rule in RULES and of in ("", kind):
            chosen = rule
    return chosen


def tell(found: Iterable[Hazard], rules: str, keep_fds: Iterable[int]) -> int:
    """One sentence for each on standard error; how many are errors."""
    errors, kept = 0, set(keep_fds)
    for hazard in found:
        rule = _rule_for(hazard.kind, rules)
        if rule == "allow" or (hazard.fds and kept.issuperset(hazard.fds)):
            continue
        errors += rule == "error"
        print(f"fixd: checkpoint: {'warning: ' if rule == 'warn' else ''}{hazard.sentence} ({hazard.kind})", file=sys.stderr, flush=True)
    return errors
