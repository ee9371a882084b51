#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs that care what is loaded with them and what they inherit: in a run they are as they are without it."""

import os
import shutil
import subprocess
import sys

from stage import LIMIT, Fixture, Skip, Stage, environment, main, modes, program, wait_for
from harness import BUILD, SANITIZERS


def stage(t):
    source = t.path("source")
    os.makedirs(source + "/sub", exist_ok=True)
    t.write("source/a.txt", "hello\n")
    t.write("source/same.txt", "hello\n")
    t.write("source/sub/b.txt", "world\n")
    return Stage(t, Fixture("tree", "directory", source, "shown/tree"), Fixture("file", "file", t.write("one", "one\n"), "shown/file"))


def trees(t):
    """With mounts nothing of the run is loaded then."""
    source = t.path("source")
    os.makedirs(source, exist_ok=True)
    t.write("source/a.txt", "hello\n")
    return Stage(t, Fixture("tree", "directory", source, "shown/tree"))


def compiled(t, name, text, *flags, compiler="gcc"):
    to = t.path(name)
    subprocess.run([compiler, "-w", "-o", to, t.write(name + ".c", text), *flags], check=True)
    return to


def needs(program):
    if not shutil.which(program):
        raise Skip(f"{program} is not installed")
    return program


def same(s, command, **env):
    native, run = s.native(command, **env), s.run(command, **env)
    assert native.code == 0, native.__dict__
    assert not list(native.differences(run)), "\n".join(native.differences(run))


def both(t, command, leaves_processes=False, **env):
    """As it is without fixd: where files are shown, and where there are only trees."""
    for make in (stage, trees):
        s = make(t)
        s.leaves_processes = leaves_processes
        same(s, command, **env)
        s.daemon.stop()


def test_first_free_is_inside_dlsym(t):
    both(t, [compiled(t, "asks", r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
int main(void) { dlsym(RTLD_DEFAULT, "no_such_function"); dlsym(RTLD_DEFAULT, "nor_this_one"); puts(dlerror()); return 0; }
""")])


RACES = r"""
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
static void *work(void *arg)
{
	char name[100], real[4096];
	struct stat st;
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "shown/tree/%s-%d", (char *)arg, i);
		FILE *f = fopen(name, "w");
		if (!f || fputs("x", f) < 0 || fclose(f) != 0 || stat(name, &st) != 0 || !realpath("shown/tree/a.txt", real)) exit(2);
		DIR *d = opendir("shown/tree");
		while (d && readdir(d)) ;
		closedir(d);
		snprintf(real, sizeof real, "shown/tree/%s", (char *)arg);
		if (rename(name, real) != 0 || unlink(real) != 0) exit(3);
	}
	return NULL;
}
int main(int argc, char **argv)
{
	pthread_t threads[2];
	if (chdir("shown/tree") != 0 || chdir("../..") != 0) return 4;
	for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, work, argv[1 + i]);
	for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
	return puts("done") < 0;
}
"""


def test_thread_sanitizer(t):
    """It takes the place of half of the C library, and asks for the other half before it has begun; what threads of the shim do is no race."""
    if SANITIZERS:
        raise Skip("two sanitizers do not go together")
    for compiler in filter(shutil.which, ("gcc", "clang")):
        both(t, ["sh", "-c", compiled(t, compiler, RACES, "-g", "-fsanitize=thread", "-pthread", compiler=compiler) + " a b"])


def test_libraries_of_c_plus_plus_in_programs_of_c(t):
    """A program of C opens one for itself: its runtime is in nobody else's sight."""
    if "address" in SANITIZERS:
        raise Skip("the sanitizer brings its own malloc")
    needs("g++")
    library = compiled(t, "library.so", r"""
extern "C" int three(void) { int *one = new int(1), *two = new int[2]; *two = 2; int sum = *one + *two; delete one; delete[] two; return sum; }
""", "-x", "c++", "-O0", "-fPIC", "-shared", compiler="g++")
    opens = compiled(t, "opens", r"""
#include <dlfcn.h>
int main(int n, char **argv)
{
	for (int i = 0; i < 3; i++) {
		void *library = dlopen(argv[1], RTLD_NOW);
		if (!library || ((int (*)(void))dlsym(library, "three"))() != 3) return 1;
		dlclose(library);
	}
	return 0;
}
""")
    both(t, [opens, library])
    allocator = compiled(t, "allocator.so", r"""
#include <stddef.h>
#include <stdlib.h>
void *operator new(size_t n) { char *p = (char *)malloc(n + 64); return p + 64; }
void operator delete(void *p) noexcept { free((char *)p - 64); }
extern "C" int three(void) { int *p = new int(3); int n = *p; delete p; return n; }
""", "-x", "c++", "-O0", "-fPIC", "-shared", compiler="g++")
    both(t, [opens, allocator])


# Other names that only libc itself and its own libraries use.
KNOWN_TO_LIBC = {"__sigaction"}

ALLOCATORS = "libc_malloc_debug.so.0", "libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0", "libmimalloc.so.3"


def loads(library):
    done = subprocess.run(["true"], env={"LD_PRELOAD": library}, stderr=subprocess.PIPE)
    return done.returncode == 0 and not done.stderr


def test_allocators(t):
    """Before the run's library or behind it: what is given out by one is not taken back by another."""
    found = [a for a in ALLOCATORS if loads(a)]
    assert found
    tunables = {"GLIBC_TUNABLES": "glibc.malloc.check=1:glibc.malloc.perturb=165", "MALLOC_CHECK_": "3"}
    for allocator in found:
        for value in (f"{allocator} $LD_PRELOAD", f"$LD_PRELOAD {allocator}", allocator):
            both(t, ["sh", "-c", f"LD_PRELOAD=\"{value}\"; export LD_PRELOAD; cat shown/tree/a.txt && sort shown/tree/a.txt && "
                                 "find shown/tree | sort && /usr/bin/python3 -c 'import json, re; print(json.dumps([1]))'"], **tunables)


def test_stat_of_another_library(t):
    library = compiled(t, "old-stat.so", r"""
#include <sys/stat.h>
int __fxstat(int version, int fd, struct stat *st);
int __xstat(int version, const char *path, struct stat *st);
int fstat(int fd, struct stat *st) { return __fxstat(1, fd, st); }
int stat(const char *path, struct stat *st) { return __xstat(1, path, st); }
""", "-shared", "-fPIC")
    both(t, ["sh", "-c", f"export LD_PRELOAD=\"{library} $LD_PRELOAD\"; cat shown/tree/a.txt; stat -c %s shown/tree/a.txt /etc/passwd; ls shown/tree"])


# Each asks libc's way in for what it stands in front of, or a function that is the same to us.
INTERPOSERS = {
    "stat by number": "int stat(const char *p, void *s) { return syscall(SYS_stat, p, s); } "
                      "int fstatat(int d, const char *p, void *s, int f) { return syscall(SYS_newfstatat, d, p, s, f); }",
    "open by number": "int open(const char *p, int f, int m) { return syscall(SYS_openat, -100, p, f, m); } "
                      "int openat(int d, const char *p, int f, int m) { return syscall(SYS_openat, d, p, f, m); }",
    "open by sibling": "int open64(const char *, int, ...); int open(const char *p, int f, int m) { return open64(p, f, m); }",
    "close": "int close(int f) { return syscall(SYS_close, f); } int fcntl(int f, int c, long a) { return syscall(SYS_fcntl, f, c, a); }",
    "exec": "int execve(const char *p, void *a, void *e) { return syscall(SYS_execve, p, a, e); }",
    "rename": "int renameat2(int, const char *, int, const char *, unsigned); int renameat(int, const char *, int, const char *); "
              "int rename(const char *a, const char *b) { return renameat(-100, a, -100, b); } "
              "int renameat(int x, const char *a, int y, const char *b) { return renameat2(x, a, y, b, 0); }",
    "unlink": "int unlink(const char *p) { return syscall(SYS_unlink, p); } int unlinkat(int d, const char *p, int f) { return syscall(SYS_unlinkat, d, p, f); }",
    "readdir": "void *readdir64(void *); void *readdir(void *d) { return readdir64(d); }",
    "readlink": "long readlink(const char *p, char *b, size_t n) { return syscall(SYS_readlink, p, b, n); }",
    "truncate": "int truncate64(const char *, long); int truncate(const char *p, long n) { return truncate64(p, n); }",
}


def test_libraries_that_are_asked_for_what_they_ask_for(t):
    if not os.uname().machine == "x86_64":
        raise Skip("the numbers are those of x86_64")
    head = "#define _GNU_SOURCE\n#include <stddef.h>\n#include <sys/syscall.h>\nlong syscall(long, ...);\n"
    libraries = [compiled(t, f"interposer{n}.so", head + text, "-shared", "-fPIC") for n, text in enumerate(INTERPOSERS.values())]
    script = t.write("uses.sh", "cd shown/tree; cat a.txt; ls -l | wc -l; echo q >>a.txt; mkdir n; mv a.txt n/; rm n/a.txt; ln -s x s; readlink s; "
                     "/usr/bin/python3 -c 'import os; os.truncate(\"same.txt\", 2); print(sorted(os.listdir(\".\")))'\n")
    s = stage(t)
    for name, library in zip(INTERPOSERS, libraries):
        done = s.run(["sh", "-c", f"LD_PRELOAD=\"{library} $LD_PRELOAD\" sh {script}; LD_PRELOAD=\"$LD_PRELOAD {library}\" cat shown/tree/sub/b.txt"])
        assert done.code == 0 and done.out.decode().splitlines() == ["hello", "4", "x", "['n', 's', 'same.txt', 'sub']", "world"], (name, done.__dict__)


def test_fakeroot(t):
    needs("fakeroot")
    both(t, ["sh", "-c", "fakeroot sh -c 'chown 123 shown/tree/a.txt; stat -c %u shown/tree/a.txt; touch shown/tree/new; ls shown/tree; rm shown/tree/new'"],
         leaves_processes=True)  # its server ends when it has been told to


def test_faketime(t):
    needs("faketime")
    both(t, ["faketime", "2001-02-03 04:05:06", "sh", "-c", "date +%F; cat shown/tree/a.txt; touch shown/tree/new; stat -c %Y shown/tree/a.txt >/dev/null; rm shown/tree/new"])


DESCRIPTORS = r"""
import fcntl, os
def is_open(fd):
    try: return bool(os.fstat(fd))
    except OSError: return False
def has_flags(fd):
    try: return fcntl.fcntl(fd, fcntl.F_GETFD) >= 0
    except OSError: return False
def copy(fd):
    try: os.close(os.dup(fd)); return True
    except OSError: return False
for check in is_open, has_flags, copy: print([fd for fd in range(20000) if check(fd)])
print(sorted(os.listdir("/proc/self/fd"))[:-1], sorted(os.listdir(f"/proc/{os.getppid()}/fd")))
"""


VALGRIND = """
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static char *heap(const char *s) { return strcpy(malloc(strlen(s) + 1), s); }
int main(void)
{
	char *a = heap("shown/tree/a.txt"), *b = heap("shown/tree/b"), *c = heap("shown/tree"), line[10];
	struct stat st;
	FILE *f = fopen(a, "r");
	DIR *d = opendir(c);
	if (!f || !d || !fgets(line, 10, f) || strcmp(line, "hello\\n") || stat(a, &st) || rename(a, b) || unlink(b) || !access(a, F_OK))
		return 1;
	while (readdir(d))
		;
	closedir(d);
	fclose(f);
	free(a), free(b), free(c);
	return 0;
}
"""


def test_valgrind(t):
    """What it says of a program is the same, and so what it does not say."""
    valgrind = needs("valgrind")
    if SANITIZERS:
        raise Skip("the library has its own checks inside")
    done = stage(t).run([valgrind, "-q", "--leak-check=full", "--error-exitcode=9", compiled(t, "paths", VALGRIND, "-g")])
    assert (done.code, done.out, done.err) == (0, b"", b""), done.err


def test_no_descriptor_is_seen(t):
    script = t.write("descriptors.py", DESCRIPTORS)
    both(t, ["sh", "-c", f"{sys.executable} {script}; echo 3 4 5 | xargs -n 1 {sys.executable} {script}; ls /proc/self/fd"])


def test_environment_where_the_kernel_shows_all(t):
    if t.mode != "mount":
        raise Skip("only mounts need no library")
    s = trees(t)
    done = s.run(["sh", "-c", "env | cut -d= -f1 | grep -E 'LD_|FIXD_(FIXTURE|RUN|SHIM|SOCKET)' | sort; cat shown/tree/a.txt"])
    assert done.out == b"FIXD_FIXTURE_tree\nFIXD_RUN\nFIXD_SOCKET\nhello\n", done.__dict__
    # It is no less a run: what is left behind keeps it, and the last process ends it.
    waits = "while test ! -e go; do sleep 0.02; done; cat shown/tree/a.txt >said"
    done = subprocess.run(s.run_command() + ["sh", "-c", f"echo changed >shown/tree/a.txt; ({waits}) >/dev/null 2>&1 &"],
                          cwd=s.work, capture_output=True, env=environment(TMPDIR=t.dir), timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, b""), done
    open(s.work + "/go", "w").close()
    wait_for(lambda: os.path.exists(s.work + "/said") and open(s.work + "/said").read() == "changed\n", "what was left behind")
    wait_for(lambda: not [d for d in os.listdir(t.dir) if d.startswith("fixd-run-")], "the end of the run")


def test_musl(t):
    needs("musl-gcc")
    hello = compiled(t, "hello", '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }', compiler="musl-gcc")
    said = f"{hello}: it is for another machine, word size or C library, and does not see the fixtures of the run".encode()
    for command in ([hello],
                    ["sh", "-c", f"{hello}; env {hello}; {hello} | cat; python3 -c 'import os, subprocess; subprocess.run([\"{hello}\"]); os.execv(\"{hello}\", [\"x\"])'"],
                    ["sh", "-c", f"python3 -c 'import os; os.posix_spawn(\"{hello}\", [\"x\"], os.environ); os.wait(); print(os.system(\"{hello}\"))'"]):
        for make in (stage, trees):
            s = make(t)
            native, run = s.native(command), s.run(command)
            lines = run.err.splitlines(keepends=True)
            # Once, where trees are not mounted.
            assert sum(said in line for line in lines) == (t.mode == "shim"), run.__dict__
            run.err = b"".join(line for line in lines if said not in line)
            assert native.code == 0 and not list(native.differences(run)), "\n".join(native.differences(run))
            s.daemon.stop()


WRITES = """
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) { close(open("written", O_CREAT | O_WRONLY, 0644)); return !printf("hello %d\\n", argc); }
"""


def test_interpreters_of_scripts(t):
    """Which the kernel starts: they are as programs that are started by their names."""
    here = {"static": compiled(t, "static", WRITES, "-static")}
    if shutil.which("musl-gcc"):
        here["musl"] = compiled(t, "musl", WRITES, compiler="musl-gcc")
    if not SANITIZERS:
        here["sanitized"] = compiled(t, "sanitized", WRITES, "-fsanitize=address")
    s = trees(t)
    for name, program_ in here.items():
        script = t.write(f"script-{name}", f"#!{program_}\n")
        os.chmod(script, 0o755)
        for command in ["sh", "-c", f"cd shown/tree && {script}; {script} | cat"], [script]:
            done = s.run(command)
            assert done.code == 0 and done.out.replace(b"hello 2\n", b"") == b"" and b"hello 2" in done.out and b"rror" not in done.err, (name, done.__dict__)
        # What it has written where it is not seen is this run's own.
        assert s.run(["ls", "shown/tree"]).out == b"a.txt\n", name


LIBRARIES = r"""
set -e
cd shown/tree; mkdir -p lib/deep bin plugins ../../out/bin ../../out/lib; out=../../out/bin
gcc -shared -fPIC -Wl,-soname,libdeep.so -o lib/deep/libdeep.so -xc - <<<'int deep(void) { return 40; }'
gcc -shared -fPIC -Wl,-soname,libnear.so -o lib/libnear.so -xc - -Llib/deep -ldeep "-Wl,-rpath,$PWD/lib/deep" <<<'int deep(void); int near(void) { return deep() + 1; }'
gcc -o bin/absolute -xc - -Llib -lnear "-Wl,-rpath,$PWD/lib" -Wl,-rpath-link,lib/deep <<<'#include <stdio.h>
int near(void); int main(void) { return !printf("%d\n", near() + 1); }'
gcc -o bin/relative -xc - -Llib -lnear '-Wl,-rpath,$ORIGIN/../lib' -Wl,-rpath-link,lib/deep <<<'#include <stdio.h>
int near(void); int main(void) { return !printf("%d\n", near() + 2); }'
gcc -shared -fPIC -o plugins/plugin.so -xc - -Llib -lnear "-Wl,-rpath,$PWD/lib" -Wl,-rpath-link,lib/deep <<<'int near(void); int plugin(void) { return near(); }'
gcc -o $out/loads -xc - <<<'#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) { void *h = dlopen(argv[1], RTLD_NOW); int (*f)(void) = h ? (int (*)(void))dlsym(h, "plugin") : 0; return !printf("%d\n", f ? f() : -1); }'
cp bin/relative bin/absolute $out; cp lib/libnear.so $out/../lib
bin/absolute; bin/relative; $out/absolute; $out/relative; $out/loads plugins/plugin.so; $out/loads $PWD/plugins/plugin.so; rm -r ../../out
LD_LIBRARY_PATH=/none bin/absolute; LD_LIBRARY_PATH=lib:lib/deep bin/relative
gcc -o bin/shows -xc - -Llib -lnear "-Wl,-rpath,$PWD/lib" -Wl,-rpath-link,lib/deep <<<'#include <stdio.h>
#include <stdlib.h>
int main(void) { const char *s = getenv("LD_LIBRARY_PATH"); puts(s ? s : "not set"); return system("echo ${LD_LIBRARY_PATH-not set}"); }'
bin/shows; LD_LIBRARY_PATH=/none:/nothing bin/shows; python3 -c 'import subprocess; subprocess.run(["bin/absolute"]); subprocess.run(["bin/relative"], env={})'
rm lib/deep/libdeep.so; bin/absolute 2>/dev/null && echo still there
cd bin; ./relative 2>/dev/null && echo still there; true
"""


def test_libraries_in_fixtures(t):
    """Wherever the loader is told to look for them."""
    both(t, ["bash", "-c", LIBRARIES])


LOADED = r"""
set -e
PATH_OF=$PWD/shown/tree/lib
LD_LIBRARY_PATH=$PATH_OF $T/needs; LD_LIBRARY_PATH=shown/tree/lib $T/needs; LD_LIBRARY_PATH="/none;shown/tree/lib" $T/needs; LD_LIBRARY_PATH=$T/other:shown/tree/lib $T/needs
LD_LIBRARY_PATH=shown/tree/lib:$T/other $T/needs; LD_LIBRARY_PATH=:shown/tree/lib:$T/other $T/needs
export LD_LIBRARY_PATH=/none:$PATH_OF; sh -c '$T/needs; exec $T/needs'; python3 -c 'import os, subprocess; needs = os.environ["T"] + "/needs"; print(os.environ["LD_LIBRARY_PATH"] == "/none:" + os.getcwd() + "/shown/tree/lib")
subprocess.run([needs]); os.posix_spawn(needs, ["needs"], os.environ); os.wait(); subprocess.run([needs], env={"LD_LIBRARY_PATH": os.environ["T"] + "/other"})'
unset LD_LIBRARY_PATH; $T/says; cd shown; $T/says 2>/dev/null || echo not from here; cd ..
LD_PRELOAD=shown/tree/lib/libseven.so $T/other/needs; LD_PRELOAD="libdl.so.2 $PATH_OF/libseven.so" sh -c '$T/other/needs; $T/other/needs'; LD_PRELOAD=$PWD/shown/file $T/other/needs
LD_PRELOAD=shown/tree/lib/libseven.so env -u LD_PRELOAD $T/other/needs
echo changed >shown/tree/a; LD_LIBRARY_PATH=shown/tree/lib $T/needs; cp $T/other/libfive.so shown/tree/lib/libfive.so; LD_LIBRARY_PATH=shown/tree/lib $T/needs; rm shown/tree/lib/libfive.so
LD_LIBRARY_PATH=shown/tree/lib $T/needs 2>/dev/null || echo gone
"""


def test_what_the_loader_is_told(t):
    """By variables, and by a path from wherever the program is started."""
    os.makedirs(t.path("tree/lib"))
    os.makedirs(t.path("other"))
    t.write("tree/a", "a\n")
    compiled(t, "tree/lib/libfive.so", "int five(void) { return 5; }", "-shared", "-fPIC", "-Wl,-soname,libfive.so")
    compiled(t, "tree/lib/libseven.so", "int five(void) { return 7; }", "-shared", "-fPIC")
    compiled(t, "other/libfive.so", "int five(void) { return 6; }", "-shared", "-fPIC", "-Wl,-soname,libfive.so")
    compiled(t, "needs", NEEDS_LIBRARY, "-L" + t.path("tree/lib"), "-lfive")
    compiled(t, "says", NEEDS_LIBRARY, "-L" + t.path("tree/lib"), "-lfive", "-Wl,-rpath,shown/tree/lib")
    compiled(t, "other/needs", NEEDS_LIBRARY, "-L" + t.path("tree/lib"), "-lfive", "-Wl,-rpath,$ORIGIN")
    s = Stage(t, Fixture("tree", "directory", t.path("tree"), "shown/tree"), Fixture("seven", "file", t.path("tree/lib/libseven.so"), "shown/file"))
    same(s, ["bash", "-c", LOADED], T=t.dir)
    assert b"True" in s.run(["bash", "-c", LOADED], T=t.dir).out


CHAIN = 10
STARTS = r"""
#include <dlfcn.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static char *program;
static void *start(void *how)
{
	char *argv[] = { program, NULL };
	int status = -1;
	pid_t pid;

	if (how)
		status = !dlopen("shown/tree/lib/lib0.so", RTLD_NOW);
	else if (posix_spawn(&pid, program, NULL, NULL, argv, NULL) == 0)
		waitpid(pid, &status, 0);
	printf("%d\n", status);
	return NULL;
}
int main(int argc, char **argv)
{
	pthread_attr_t attributes;
	pthread_t thread;

	program = argv[1];
	setvbuf(stdout, NULL, _IONBF, 0);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 64 << 10);
	for (long k = 0; k < 2; k++) {
		pthread_create(&thread, &attributes, start, (void *)k);
		pthread_join(thread, NULL);
	}
	return execve(program, argv + 1, NULL);
}
"""
LOADS = """#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) { void *h = dlopen(argv[1], RTLD_NOW); int (*f)(void) = h ? (int (*)(void))dlsym(h, "ten") : 0; return !printf("%d\\n", f ? f() : -1); }
"""
OF_OTHERS = r"""
$T/loads $T/out/libten.so; LD_LIBRARY_PATH=$T/out $T/loads libten.so; LD_LIBRARY_PATH=$T/out $T/uses; LD_PRELOAD=$T/out/libten.so /bin/echo preloaded
for how in "fd" "'/proc/self/fd/%d' % fd"; do python3 -c "import os; fd = os.open(os.environ['T'] + '/origin', os.O_RDONLY); os.set_inheritable(fd, True); os.execve($how, ['x'], os.environ)"; done
LD_LIBRARY_PATH=$PWD/shown/tree/lib python3 -c "import os; fd = os.open(os.environ['T'] + '/needs', os.O_RDONLY); os.execve(fd, ['x'], os.environ)"
mkdir far; ln -s $T/origin far/link; far/link; rm -r far; $T/starts $T/deep
"""


def test_libraries_of_others(t):
    """What lies elsewhere needs what is in a fixture; and whoever starts it has little stack, or no environment."""
    os.makedirs(t.path("tree/lib"))
    os.makedirs(t.path("out"))
    where = t.path("work/shown/tree/lib")
    compiled(t, "tree/lib/libfive.so", "int five(void) { return 5; }", "-shared", "-fPIC", "-Wl,-soname,libfive.so")
    compiled(t, "out/libten.so", "int five(void); int ten(void) { return 2 * five(); }", "-shared", "-fPIC", "-Wl,-soname,libten.so", "-L" + t.path("tree/lib"), "-lfive",
             "-Wl,-rpath," + where)
    for k in reversed(range(CHAIN)):
        more = ["-L" + t.path("tree/lib"), f"-l{k + 1}"] if k + 1 < CHAIN else []
        body = f"int f{k + 1}(void); int f{k}(void) {{ return f{k + 1}(); }}" if more else f"int f{k}(void) {{ return 0; }}"
        compiled(t, f"tree/lib/lib{k}.so", body, "-shared", "-fPIC", f"-Wl,-soname,lib{k}.so", *more, "-Wl,-rpath," + where)
    compiled(t, "needs", NEEDS_LIBRARY, "-L" + t.path("tree/lib"), "-lfive")
    compiled(t, "origin", NEEDS_LIBRARY, "-L" + t.path("tree/lib"), "-lfive", "-Wl,-rpath,$ORIGIN/work/shown/tree/lib")
    compiled(t, "uses", NEEDS_LIBRARY.replace("five", "ten"), "-L" + t.path("out"), "-lten", "-Wl,--allow-shlib-undefined")
    compiled(t, "deep", "int f0(void); int main(void) { return f0(); }", "-L" + t.path("tree/lib"), "-l0", "-Wl,-rpath," + where, "-Wl,--allow-shlib-undefined")
    compiled(t, "loads", LOADS)
    compiled(t, "starts", STARTS, "-lpthread")
    s = Stage(t, Fixture("tree", "directory", t.path("tree"), "shown/tree"))
    same(s, ["bash", "-c", OF_OTHERS], T=t.dir)
    # What the command itself is to use was said before the run.
    for more in {"LD_LIBRARY_PATH": "shown/tree/lib"}, {"LD_LIBRARY_PATH": where}:
        same(s, [t.path("needs")], **more)
    # The loader of fixctl says that there is no such file, and nobody after it.
    done = s.run([t.path("needs")], LD_PRELOAD=where + "/libfive.so")
    assert done.out == b"5\n" and done.err.count(b"cannot be preloaded") == 1, done.__dict__


def test_programs_and_libraries_on_both_sides(t):
    """The program is in a fixture, and its library beside that, and the other way round."""
    for d in ("bin", "lib", "only"):
        os.makedirs(t.path(d), exist_ok=True)
    compiled(t, "lib/libzz.so", "int zz(void) { return 42; }", "-shared", "-fPIC")
    compiled(t, "bin/prog", "int zz(void); int main(void) { return zz() != 42; }", "-L", t.path("lib"), "-lzz", "-Wl,-rpath,$ORIGIN/../lib")
    for shown, beside in (("bin", "lib"), ("lib", "bin")):
        s = Stage(t, Fixture("tree", "directory", t.path(shown), f"build/{shown}"))
        done = s.run(["sh", "-c", f"cp -r {t.path(beside)} build; build/bin/prog && build/../build/bin/prog && cd build && bin/prog; echo $?; cd ..; rm -r build/{beside}"])
        assert done.out == b"0\n" and done.err == b"", done.__dict__
        s.daemon.stop()


NAMES = r"""
import grp, os, pwd, socket
print(pwd.getpwnam("fixuser").pw_uid, pwd.getpwuid(4242).pw_name, [p.pw_name for p in pwd.getpwall()][-1])
print(grp.getgrnam("fixgroup").gr_gid, grp.getgrgid(4243).gr_name, [g.gr_name for g in grp.getgrall()][-1], sorted(os.getgrouplist("fixuser", 4242)))
for name in "root-of-nothing", "daemon":
    try: print(pwd.getpwnam(name).pw_uid)
    except KeyError as e: print(e)
print(socket.gethostbyname("fixd-test-host"), socket.gethostbyname_ex("fixd-alias"), socket.gethostbyaddr("127.0.0.9")[0])
print(sorted({a[4][:2] for a in socket.getaddrinfo("fixd-test-host", 80, type=socket.SOCK_STREAM)}))
print(socket.getaddrinfo("fixd-test-host", None, family=socket.AF_INET, flags=socket.AI_CANONNAME)[0][3])
"""


def test_directories_above_a_fixture_elsewhere(t):
    """Where they are mounted, or the root directory, the fixture is seen, or that is refused with a sentence."""
    s = stage(t)
    script = "echo changed >shown/file; mkdir x; unshare -rm sh -c 'mount --rbind . x && cat x/shown/file'; unshare -rm chroot . /bin/true; ls"
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        raise Skip("there are no user namespaces here")
    done = s.run(["sh", "-c", script])
    if t.mode == "mount":
        assert b"in the place of fixtures" not in done.err, done.__dict__
    else:
        assert b"mounted elsewhere it would have what lies on the disk in the place of fixtures" in done.err and b"the fixtures below it would be out of sight" in done.err, done.__dict__
        assert done.out == b"shown\nx\n", done.__dict__


NEEDS_LIBRARY = "#include <stdio.h>\nint five(void);\nint main(void) { printf(\"%d\\n\", five()); return 0; }\n"


def test_where_the_kernel_executes_nothing(t):
    """As in containers, whose /dev/shm is mounted noexec: what is started or loaded is a copy, and nothing has changed by that."""
    alone = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    if subprocess.run([*alone, "mount", "-t", "tmpfs", "-o", "noexec", "none", "/dev/shm"], capture_output=True).returncode:
        raise Skip("nothing can be mounted here")
    os.makedirs(t.path("tree/bin"))
    os.makedirs(t.path("tree/lib"))
    compiled(t, "tree/lib/libfive.so", "int five(void) { return 5; }", "-shared", "-fPIC")
    compiled(t, "tree/bin/needs", NEEDS_LIBRARY, "-L" + t.path("tree/lib"), "-lfive", "-Wl,-rpath,$ORIGIN/../lib")
    os.chmod(t.write("tree/bin/script", "#!/bin/sh\necho script $1\n"), 0o755)
    t.write("tree/none", "#!/bin/sh\n")
    ini = t.write("fixd.ini", "[fixture tree]\ndirectory = tree\npath = tree\n")
    script = ("tree/bin/script 1; tree/bin/needs; test -x tree/bin/needs && tree/bin/needs; test -x tree/none || echo none; PATH=$PWD/tree/bin:$PATH; script 2; "
              "cp tree/bin/script tree/new && tree/new 3; /usr/bin/python3 -c 'import ctypes, os, subprocess; print(ctypes.CDLL(\"./tree/lib/libfive.so\").five()); "
              "print(os.access(\"tree/bin/needs\", os.X_OK), os.access(\"tree/none\", os.X_OK)); subprocess.run([\"tree/bin/needs\"])'")
    inside = "for d in /dev/shm /run; do mount -t tmpfs -o noexec,size=512m none $d || exit 99; done; exec \"$@\""
    done = subprocess.run([*alone, "sh", "-c", inside, "sh", program("fixctl"), "run", "--isolate", t.mode, "-c", ini, "--changes", "--", "sh", "-c", script],
                          cwd=t.dir, capture_output=True, env=environment(TMPDIR=t.dir), timeout=LIMIT)
    assert done.returncode == 0 and done.stdout == b"script 1\n5\n5\nnone\nscript 2\nscript 3\n5\nTrue False\n5\n", done
    assert done.stderr.decode().splitlines() == [f"new {t.path('tree/new')}"], done


def test_blocks_of_a_file_with_holes(t):
    with open(t.path("holes"), "wb") as f:
        f.write(b"begin")
        f.truncate(64 << 20)
    s = Stage(t, Fixture("file", "file", t.path("holes"), "shown/file"))
    done = s.run(["stat", "-c", "%s %b", "shown/file"])
    size, blocks = map(int, done.out.split())
    assert size == 64 << 20 and 0 < blocks < 2048, done.__dict__


def test_users_groups_and_hosts(t):
    """The C library opens these files by itself."""
    if os.geteuid() != 0 or not all(os.path.exists(f) for f in ("/etc/passwd", "/etc/group", "/etc/hosts")):
        raise Skip("needs root, and the files on the disk")
    files = {"passwd": "root:x:0:0:root:/root:/bin/sh\nfixuser:x:4242:4242::/:/bin/sh\n", "group": "root:x:0:\nfixgroup:x:4243:other,fixuser\n",
             "hosts": "127.0.0.1 localhost\n127.0.0.9 fixd-test-host fixd-alias # comment\n::9 fixd-test-host\n"}
    ini = "".join(f"[fixture {n}]\nfile = {t.write(n, text)}\npath = /etc/{n}\n" for n, text in files.items())
    d = t.daemon(ini)
    done = subprocess.run([program("fixctl"), "--socket", d.socket, "run", "--isolate", t.mode, "--", "sh", "-c",
                           f"/usr/bin/python3 {t.write('names.py', NAMES)}; getent passwd fixuser; getent group fixgroup; getent hosts fixd-alias; id -Gn fixuser"],
                          capture_output=True, env=environment(TMPDIR=t.dir), timeout=LIMIT)
    many = ("import pwd, grp, resource\nfor _ in range(40): pwd.getpwnam('fixuser'), grp.getgrgid(4243)\n"
            "assert len(pwd.getpwall()) == 2\nassert int(open('/proc/self/statm').read().split()[0]) < 100000\n")
    again = subprocess.run([program("fixctl"), "--socket", d.socket, "run", "--isolate", t.mode, "--", "/usr/bin/python3", "-c", many],
                           capture_output=True, env=environment(TMPDIR=t.dir), timeout=LIMIT)
    assert again.returncode == 0, again
    assert done.stdout.decode().splitlines() == [
        "4242 fixuser fixuser", "4243 fixgroup fixgroup [4242, 4243]", "\"getpwnam(): name not found: 'root-of-nothing'\"", "\"getpwnam(): name not found: 'daemon'\"",
        "127.0.0.9 ('fixd-test-host', ['fixd-alias'], ['127.0.0.9']) fixd-test-host", "[('127.0.0.9', 80), ('::9', 80)]", "fixd-test-host",
        "fixuser:x:4242:4242::/:/bin/sh", "fixgroup:x:4243:other,fixuser", "127.0.0.9       fixd-test-host fixd-alias", "4242 fixgroup"], (done.stdout.decode(), done.stderr)


ETC = {
    "hosts": "::1 localhost ip6-localhost\n127.0.0.1 localhost\n::ffff:127.0.0.8 mapped\n127.0.0.9 one both\n127.0.0.10 two both\nfd00::9 both\nno address\n127.0.0.11\n",
    "services": "# a comment\nfixd-name 4711/tcp other another # more\nfixd-name 4712/udp\nwrong tcp\nzero 0080/tcp\nhex 0x50/tcp\nnop 9\nslash 9/ tcp\nslashes 12//tcp\nlarge 70000/tcp\nno 9 tcp\nbelow -1/tcp\nabove 99999999999/tcp\nfeed\f12/udp\n",
    "protocols": "fixd-protocol 253 FIXD-PROTOCOL\nold 010 OLD\nhex 0x11\nbelow -1\n",
    "networks": "fixd-network 10.77\nnamed 10 Alias\nall 255.255.255.255\nnone x\n",
    "rpc": "fixd-rpc 400123 rpc-other\n",
    "passwd": "root:x:0:0:root:/root:/bin/sh\nfixuser:x:4242:4242::/home/fix:/bin/sh\n+::::::\n",
    "group": "root:x:0:\nlarge:x:4244:" + ",".join(f"member{i}" for i in range(3000)) + "\n",
    "shadow": "fixuser:!:19000:0:99999:7:::\n",
    "gshadow": "fixgroup:!:fixuser:other\n",
}
OF_ETC = r"""
import glob, os, pwd, socket, subprocess
def say(*words):
    done = subprocess.run(["getent", *words], capture_output=True, text=True)
    print(" ".join(words), done.returncode, [" ".join(line.split()) for line in done.stdout.splitlines()])
for database in "hosts", "services", "protocols", "networks", "rpc", "shadow", "gshadow": say(database)
for name in "localhost", "mapped", "both", "ONE", "ip6-localhost":
    for how in "hosts", "ahosts", "ahostsv4", "ahostsv6": say(how, name)
say("hosts", "127.0.0.10"); say("hosts", "fd00::9"); say("services", "another"); say("services", "4712"); say("services", "4711/tcp"); say("services", "4711/udp")
say("protocols", "253"); say("networks", "10.77.0.0"); say("rpc", "rpc-other"); say("rpc", "400123"); say("shadow", "fixuser"); say("initgroups", "member2999")
say("passwd", "+"); say("passwd"); say("networks", "alias"); say("-s", "files", "passwd", "fixuser"); say("-s", "hosts:files", "hosts", "two")
print(socket.getnameinfo(("127.0.0.10", 4711), 0), socket.getaddrinfo("two", "fixd-name", type=socket.SOCK_STREAM)[0][4], os.path.expanduser("~fixuser"))
print(sorted({a[4][0] for a in socket.getaddrinfo("one", None, family=socket.AF_INET6, flags=socket.AI_V4MAPPED | socket.AI_ALL)}))
"""


def test_files_that_are_made_immutable(t):
    """They go with the run."""
    if os.geteuid() != 0:
        raise Skip("needs root")
    s = stage(t)
    places = "/dev/shm", "/run", "/tmp", t.dir
    before = {(place, name) for place in places for name in os.listdir(place) if name.startswith("fixd-run-")}
    if s.run(["sh", "-c", "cd shown/tree && echo x >new && mkdir -p d/e && touch d/e/f && chattr +i new d/e/f && chattr +i d/e && chattr +a d"]).code:
        raise Skip("chattr is not there, or the file system has no such flags")
    wait_for(lambda: not {(place, name) for place in places for name in os.listdir(place) if name.startswith("fixd-run-")} - before, "their end")


# While it goes through all groups, and in several threads.
WALKS = r"""
#include <grp.h>
#include <pthread.h>
#include <stdio.h>
static void *ask(void *unused)
{
	gid_t groups[64];

	for (int i = 0; i < 100; i++) {
		int n = 64;

		getgrouplist("member2999", 7, groups, &n);
		if (n != 2 || groups[0] != 7 || groups[1] != 4244)
			printf("%d groups\n", n);
	}
	return unused;
}
int main(void)
{
	pthread_t threads[4];
	gid_t groups[64];
	int found = 0;

	while (getgrent() && found < 1000) {
		int n = 64;

		getgrouplist("root", 0, groups, &n);
		found++;
	}
	printf("%d\n", found);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, ask, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
"""


def test_what_libc_reads_in_etc(t):
    """By the C library's own words where the files are on the disk."""
    if os.geteuid() != 0 or not all(os.path.exists(f"/etc/{n}") for n in ETC):
        raise Skip("needs root, and the files on the disk")
    files = {n: t.write(n, text) for n, text in ETC.items()}
    work = ["/usr/bin/python3", t.write("names.py", OF_ETC)]
    over = "for f in " + " ".join(files) + f"; do mount --bind {t.dir}/$f /etc/$f || exit 99; done; exec \"$@\""
    plain = subprocess.run(["unshare", "-m", "sh", "-c", over, "sh", *work], capture_output=True, timeout=LIMIT)
    if plain.returncode == 99:
        raise Skip("nothing can be mounted here")
    d = t.daemon("".join(f"[fixture {n}]\nfile = {path}\npath = /etc/{n}\n" for n, path in files.items()))

    def run(*command):
        return subprocess.run([program("fixctl"), "--socket", d.socket, "run", "--isolate", t.mode, "--", *command], capture_output=True,
                              env=environment(TMPDIR=t.dir), timeout=LIMIT)

    done = run(*work)
    assert plain.returncode == 0 and b"fixd-network 10.77.0.0" in plain.stdout and b"fixd-name 4712/udp" in plain.stdout, plain
    assert done.stdout.decode().splitlines() == plain.stdout.decode().splitlines() and not done.stderr, (done, plain)
    done = run(compiled(t, "walks", WALKS, "-lpthread"))
    assert done.stdout == b"2\n", done
    # What says where libc looks may be a fixture, too.
    for text, code in ("passwd: files\n", 0), ("passwd:\n", 2), ("passwd: none [NOTFOUND=return] files\n", 0), ("", 0), ("passwd: dns\n", 2):
        files["nsswitch.conf"] = t.write("nsswitch.conf", text or "# nothing\n")
        d.configure("".join(f"[fixture {n}]\nfile = {path}\npath = /etc/{n}\n" for n, path in files.items()))
        d.ctl("reload")
        assert run("getent", "passwd", "fixuser").returncode == code, text


OLD_CALLS = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int __xmknod(int version, const char *path, mode_t mode, dev_t *dev);
int __xmknodat(int version, int dirfd, const char *path, mode_t mode, dev_t *dev);
FILE *_IO_fopen(const char *path, const char *mode);

static void links(const char *how, char *buffer, long n)
{
	int found = 0;

	for (long at = 0; at < n; at += ((struct dirent64 *)(buffer + at))->d_reclen)
		found += ((struct dirent64 *)(buffer + at))->d_type == DT_LNK;
	printf("%s %d %d\n", how, n > 0, found);
}

int main(void)
{
	int fd = open("shown/tree", O_RDONLY | O_DIRECTORY);
	static char buffer[65536];
	dev_t none = 0;
	FILE *f;
	off_t base;

	printf("%d %d\n", __xmknodat(0, fd, "first", S_IFIFO | 0600, &none), access("shown/tree/first", F_OK));
	printf("%d %d\n", __xmknod(0, "shown/tree/second", S_IFIFO | 0600, &none), access("shown/tree/second", F_OK));
	f = _IO_fopen("shown/tree/third", "w");
	printf("%d %d\n", f && fclose(f) == 0, access("shown/tree/third", F_OK));
	fd = open("shown/tree", O_RDONLY | O_DIRECTORY);
	links("getdents64", buffer, getdents64(fd, buffer, sizeof buffer));
	lseek(fd, 0, SEEK_SET);
	links("getdirentries", buffer, getdirentries(fd, buffer, sizeof buffer, &base));
	lseek(fd, 0, SEEK_SET);
	links("syscall", buffer, syscall(SYS_getdents64, fd, buffer, sizeof buffer));
	unlink("shown/tree/first");
	unlink("shown/tree/second");
	unlink("shown/tree/third");
	return 0;
}
"""


def test_calls_of_old_programs_and_of_the_kernel(t):
    if not {"__xmknod", "__xmknodat", "_IO_fopen"} <= symbols(libc_here()):
        raise Skip("this libc has not had them")
    both(t, [compiled(t, "old-calls", OLD_CALLS)])


def libc_here():
    return next(word for word in subprocess.run(["ldd", shutil.which("cat")], capture_output=True, text=True, check=True).stdout.split() if word.startswith("/") and "libc.so" in word)


def symbols(library):
    said = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    return {line.split()[2].split("@")[0] for line in said.splitlines()}


def test_every_form_of_a_function(t):
    """What the library stands in front of it stands in front of in all forms that this libc has: fortified, large, and by number."""
    libc = libc_here()
    theirs, ours = symbols(libc), symbols(os.path.join(BUILD, ".libs", "libfixd-preload.so"))
    # Of what changes no path and opens nothing, and of what is asked for with 64 bits everywhere.
    free_to_differ = {"__fread_chk", "__recv_chk", "__recvfrom_chk"}
    missing = {form for name in ours for form in (f"__{name}_chk", f"__{name}_2", f"{name}64", f"__{name}64_2", f"__{name}", f"__x{name}", f"_IO_{name}") if form in theirs and form not in ours}
    assert missing - free_to_differ <= KNOWN_TO_LIBC, sorted(missing - free_to_differ - KNOWN_TO_LIBC)


def root_directory(t):
    """With cat and its libraries, and no more."""
    root = t.path("root")
    os.makedirs(root + "/bin", exist_ok=True)
    cat = shutil.which("cat")
    said = subprocess.run(["ldd", cat], capture_output=True, text=True, check=True).stdout
    shutil.copy(cat, root + "/bin")
    for word in said.split():
        if word.startswith("/"):
            os.makedirs(root + os.path.dirname(word), exist_ok=True)
            shutil.copy(word, root + word)
    t.write("root/file", "in the root\n")
    return root


def test_other_root_directories(t):
    """The loader does not complain of a library that is not there."""
    if os.geteuid() != 0:
        raise Skip("chroot(2) needs root")
    root = root_directory(t)
    both(t, ["chroot", root, "/bin/cat", "/file"])
    both(t, [sys.executable, "-c", f"import os, subprocess; os.chroot('{root}'); os.chdir('/'); subprocess.run(['/bin/cat', '/file']); "
                                   "subprocess.run(['/bin/cat', '/file'], env=dict(os.environ)); os.execve('/bin/cat', ['cat', '/file'], os.environ)"])
    both(t, ["sh", "-c", f"unshare --root {root} /bin/cat /file; LD_PRELOAD=$LD_PRELOAD: chroot {root} /bin/cat /file"])


if __name__ == "__main__":
    main(sys.modules[__name__], modes)
