# SPDX-License-Identifier: MIT
"""fixd-python: python, but forked from an interpreter that has imported what the last runs of the same program have imported.

A template belongs to an interpreter with its flags, the packages that are installed, the environment as far as it matters, and a program in a
directory. It is a fixture with `process =` of a daemon of its own. Where anything is missing it is plain python.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from . import _patterns
from ._command_line import CommandLine, Plain

# Read by what is not Python, or before anything could hear of it.
_MATTERS = ("PYTHON", "LD_", "LC_", "LANG", "OMP_", "OPENBLAS_", "GOTO_", "BLIS_", "MKL_", "NUMBA_", "MALLOC_", "GLIBC_", "OPENSSL_", "SSL_",
            "COVERAGE_")
_MATTERS_TOO = ("HOME", "TZ", "TMPDIR", "VIRTUAL_ENV")
# What differs between any two processes.
_VOLATILE = ("PWD", "OLDPWD", "SHLVL", "_", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID")
ALL = "*"  # all of the environment was looked at
RECORD_OF = "FIXD_PYTHON_RECORD"  # of which program the record counts, where one program starts others in its place
UNUSED = "1h"
FAILED = "1m"
_NAMES_IN_INI = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@~")


def digest(*parts: str) -> str:
    from _blake2 import blake2b  # hashlib takes longer than all of this

    h = blake2b(digest_size=10)
    for part in parts:
        h.update(part.encode(errors="surrogateescape") + b"\0")
    return h.hexdigest()


def _matters(name: str) -> bool:
    return name.startswith(_MATTERS) or name in _MATTERS_TOO


def print_of(environment: Mapping[str, str], read: Sequence[str]) -> str:
    """A word for the values of what was read."""
    names = [n for n in environment if not n.startswith("FIXD_") and n not in _VOLATILE] if ALL in read else [n for n in read if n in environment]
    return digest(*(f"{n}={environment[n]}" for n in sorted(names)))


def record_of(words: Sequence[str]) -> str:
    """A word for a program in this directory."""
    line = CommandLine(words)
    return digest(line.kind, os.path.realpath(line.name) if line.kind == "script" else line.name, os.getcwd())


class Template:
    """What one command line is forked from, as far as is known here: its record, and the name and text of its section."""

    kind = "python"
    live: Optional[Dict[str, Any]] = None

    def __init__(self, line: CommandLine, environment: Mapping[str, str], home: str):
        self.line, self.environment, self.home = line, environment, home
        of = environment.get(RECORD_OF)
        # What stands in its place may write its output in another way.
        self.flags = [f for f in line.flags if f != "-u"] if of else line.flags
        self.of = digest(of or record_of(line.words), sys.executable, sys.version, sys.prefix, *self.flags)
        self.record = os.path.join(home, f"{self.of}.record")
        self.files: List[str] = []
        self.patterns: List[str] = []
        self.modules: List[str] = []
        self.left_out: List[str] = []
        self._read_record()
        self._first = f"{self.kind}-{self._key()}"

    @property
    def name(self) -> str:
        """Another one where variables are different that its modules have read, which is known when it has imported them."""
        try:
            with open(self.readings, errors="surrogateescape") as f:
                then, *read = f.read().splitlines()
        except (OSError, ValueError):
            return self._first
        now = print_of(self.environment, read)
        return self._first if now == then else f"{self._first}-{now[:8]}"

    def is_known(self) -> bool:
        """The daemon has it, or has had it."""
        return os.path.exists(os.path.join(self.home, f"{self.name}.section"))

    @property
    def readings(self) -> str:
        return os.path.join(self.home, f"{self._first}.read")

    def _read_record(self) -> None:
        try:
            with open(self.record, errors="surrogateescape") as f:
                self.text = f.read()
        except OSError:
            self.text = ""
        for line in self.text.splitlines():
            name, _, path = line.partition(" ")
            if name.startswith("!"):
                self.left_out.append(name[1:])
                continue
            self.modules.append(name)
            if path:
                self.files.append(path)

    def _key(self) -> str:
        variables = sorted(f"{n}={v}" for n, v in self.environment.items() if _matters(n))
        # A relative place is another one elsewhere.
        paths = self.environment.get("PYTHONPATH", "").split(os.pathsep)
        here = os.getcwd() if any(p and not os.path.isabs(p) for p in paths) or "" in paths[1:] else ""
        return digest(self.of, self.text, here, *variables, *self._packages())

    def _packages(self) -> Iterable[str]:
        """What is installed has its name in one of these directories."""
        for path in [sys.executable, *sys.path]:
            if path == sys.executable or "-packages" in path:
                try:
                    status = os.stat(path)
                    yield f"{path} {status.st_mtime_ns} {status.st_size if path == sys.executable else 0}"
                except OSError:
                    continue

    # The section of the daemon's file.

    def text_of_section(self, name: str, spec: str) -> str:
        here = os.path.dirname(os.path.abspath(__file__))
        own = sorted(os.path.join(here, n) for n in os.listdir(here) if n.endswith(".py"))
        files = [*(_patterns.literal(p) for p in dict.fromkeys([*own, *self.files]) if os.path.exists(p)), *self.patterns]
        boot = os.path.join(here, "_warm.py")
        for path in (sys.executable, boot, self.home):
            if not _NAMES_IN_INI.issuperset(path):
                raise Plain(f"the path {path!r} cannot be written into fixd.ini")
        watch = ["watch = " + ",\n    ".join(files)] if files else []
        doc = " ".join([self.line.kind, *self.line.name.split()[:1]])[:60]
        doc = "".join(c if c in _NAMES_IN_INI or c == " " else "." for c in doc)
        return "\n".join([f"[fixture {name}]", f"doc = python {doc} in {digest(os.getcwd())[:6]}", f"process = exec {sys.executable} -IS {boot} {spec}",
                          *self._age(), f"retry-after = {FAILED}", *watch, ""])

    def _age(self) -> List[str]:
        return [f"max-age = {UNUSED}", "age-from = last-use"]

    def text_of_spec(self, name: str) -> str:
        import json

        # What is read is told by the first template: the others differ in the values.
        readings = self.readings if name == self._first else None

        environment = {n: v for n, v in self.environment.items() if not n.startswith("FIXD_") or n == "FIXD_LIBRARY"}
        return json.dumps({"python": sys.executable, "flags": self.flags, "environment": environment, "modules": self.modules, "left_out": self.left_out,
                           "record": self.record, "readings": readings, "name": name, "live": self.live, "package": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))})


def own_home() -> Tuple[str, str]:
    """The directory of templates of this user, and the socket of their daemon."""
    from . import _daemon

    for socket in _daemon._own_places("python"):
        return os.path.dirname(socket), socket
    raise Plain("no directory for templates is this user's own")


class LiveTemplate(Template):
    """That of a project's live fixtures: one in which pytest has set them up."""

    kind = "live"

    def __init__(self, line: CommandLine, environment: Mapping[str, str], home: str, root: str, warm: bool):
        self._root, self._warm = root, warm
        super().__init__(line, environment, home)

    def _read_record(self) -> None:
        super()._read_record()
        if not self._warm:
            self.text, self.modules = "", []
        self.text += self._root

    def _age(self) -> List[str]:
        age = self.live["max_age"] if self.live else None
        return [*(super()._age() if age is None else [f"max-age = {int(age * 1000)}ms", "age-from = creation"]), "teardown-timeout = 1m"]


def _write(path: str, text: str) -> None:
    draft = f"{path}.{os.getpid()}"
    # An environment is nobody else's to read.
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", errors="surrogateescape") as f:
        f.write(text)
    os.rename(draft, path)


SECTIONS_MAX = 30


def _write_config(home: str, new: str) -> str:
    """All sections, of those that were made last."""
    sections = sorted((os.path.join(home, n) for n in os.listdir(home) if n.endswith(".section")), key=os.path.getmtime)
    for old in sections[:-SECTIONS_MAX]:
        os.unlink(old)
    texts = [f"; Written by fixd-python: templates of Python, see fixd.ini(5).\n[fixd]\nidle-exit = {UNUSED}\n", new]
    for path in sections[-SECTIONS_MAX:]:
        with open(path, errors="surrogateescape") as f:
            texts.append(f.read())
    ini = os.path.join(home, "fixd.ini")
    _write(ini, "\n".join(texts))
    return ini


def add(home: str, socket: str, name: str, section: str) -> None:
    """Makes the daemon know a template.  One process at a time; the file of the section says to the others that it does."""
    import fcntl

    from . import _daemon

    with open(os.path.join(home, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = os.path.join(home, f"{name}.section")
        if os.path.exists(path):
            with open(path, errors="surrogateescape") as f:
                if f.read() == section:
                    return
            os.unlink(path)
        _daemon.connect(socket, may_start=True, ini=_write_config(home, section)).close()
        done = _daemon.fixctl(socket, ["reload"])
        if done.returncode != 0:
            raise Plain(done.stderr.strip())
        _write(path, section)


def forget(home: str, name: str) -> None:
    try:
        os.unlink(os.path.join(home, f"{name}.section"))
    except OSError:
        pass


def attach(home: str, socket: str, name: str) -> None:
    """There is a template, or there will be no fork."""
    from . import _daemon
    from ._lib import FixdError

    try:
        connection = _daemon.connect(socket, may_start=True, ini=os.path.join(home, "fixd.ini"))
        connection.attach(name).detach()
        connection.close()
    except (FixdError, _daemon.NoDaemon) as e:
        raise Plain(str(getattr(e, "strerror", None) or e)) from None


def _prepare(template: Template, home: str, socket: str) -> str:
    """The name of a template that has this environment's values of whatever its modules have read."""
    while True:
        name = template.name
        if not os.path.exists(os.path.join(home, f"{name}.section")):
            spec = os.path.join(home, f"{name}.spec")
            _write(spec, template.text_of_spec(name))
            add(home, socket, name, template.text_of_section(name, spec))
        attach(home, socket, name)
        if template.name == name:
            return name


def fork_command(words: Sequence[str], environment: Mapping[str, str]) -> List[str]:
    """The command that runs `python WORDS` in a fork; Plain if that cannot be."""
    line = CommandLine(words)
    if line.kind == "script" and not (os.path.isfile(line.name) and not line.name.endswith(".pyc")):
        raise Plain(f"{line.name} is no file of source")
    home, socket = ready_home(environment)
    return fork_command_of(Template(line, environment, home), home, socket, words)


def ready_home(environment: Mapping[str, str]) -> Tuple[str, str]:
    from . import _daemon, _lib

    if environment.get("FIXD_DISABLE") == "1":
        raise Plain("FIXD_DISABLE is set")
    if not _daemon.program("fixctl") or not _daemon.program("fixd"):
        raise Plain("the programs fixd and fixctl are not installed")
    try:
        _lib.library()
    except _lib.FixdError as e:
        raise Plain(str(e.strerror)) from None
    return own_home()


def fork_command_of(template: Template, home: str, socket: str, words: Sequence[str]) -> List[str]:
    from . import _daemon

    try:
        _daemon._make_home(home)
        name = _prepare(template, home, socket)
    except OSError as e:
        raise Plain(f"no template can be made: {e}") from None
    except _daemon.NoDaemon as e:
        raise Plain(str(e)) from None
    return fork_of(name, socket, words)


def fork_of(name: str, socket: str, words: Sequence[str]) -> List[str]:
    from . import _daemon

    return [_daemon.program("fixctl") or "fixctl", "--socket", socket, "fork", name, "--", *words]


def main_live(name: str) -> None:
    """A worker of a run that is a fork of that template."""
    words = sys.argv[1:]
    try:
        home, socket = ready_home(os.environ)
        attach(home, socket, name)
        command = fork_of(name, socket, words)
    except Plain:
        command = [sys.executable, *words]
    os.execv(command[0], command)


def main(words: Optional[Sequence[str]] = None) -> None:
    words = sys.argv[1:] if words is None else words
    try:
        command = fork_command(words, os.environ)
    except Plain as e:
        if os.environ.get("FIXD_VERBOSE"):
            print(f"fixd-python: plain python: {e}", file=sys.stderr, flush=True)
        command = [sys.executable, *words]
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
