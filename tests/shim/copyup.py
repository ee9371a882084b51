#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The first changes in a tree: they cost what they touch, and what has not been touched looks as it did."""

import glob
import os
import shutil
import subprocess
import sys

from stage import NOBODY, Fixture, Skip, Stage, can_reach, environment, main, modes, program, run_as, wait_for


def stage(t, directories=5, files=5):
    source = t.path("source")
    for i in range(directories):
        os.makedirs(f"{source}/d{i}/deep/er")
        for k in range(files):
            t.write(f"source/d{i}/f{k}", f"{i} {k}\n")
        t.write(f"source/d{i}/deep/er/file", "at the bottom\n")
    t.write("source/top", "top\n")
    os.symlink("d1/f1", source + "/link")
    os.symlink("../../d0", source + "/d1/deep/way")
    return Stage(t, Fixture("tree", "directory", source, "tree"))


LOOK = r"""
look() { (cd tree; find . -printf '%y %m %l %p\n' | sort; find . -type f -exec md5sum {} + | sort; ls -RF | md5sum; grep -r '' . | sort | md5sum); }
numbers() { python3 - <<'P'
import os
for base, directories, files in os.walk("tree"):
    for e in os.scandir(base):
        s = os.lstat(e.path)
        assert e.inode() == s.st_ino, (e.path, e.inode(), s.st_ino)
        assert e.is_dir(follow_symlinks=False) == os.path.isdir(e.path) or os.path.islink(e.path), e.path
P
}
"""


def test_what_was_not_touched(t):
    """Of every kind, before and after it: names, types, modes, sizes, times and bytes."""
    s = stage(t)
    # On an overlay over another file system, as containers have, readdir(3) and stat(2) tell other numbers of directories.
    agree = all(e.inode() == os.lstat(e.path).st_ino for e in os.scandir(t.path("source")))
    numbers = "numbers" if agree else ":"
    for change in ("touch -d @1000000000 tree/new", "echo more >>tree/d1/f1", "rm tree/d2/f0", "mkdir tree/d3/deep/er/new", "chmod 711 tree/d0",
                   "mv tree/d0/f0 tree/d4/deep/moved", "mv tree/d0 tree/d1/deep/er/d0", "rm -r tree/d2", "ln tree/d0/f1 tree/d1/name", "ln -s f0 tree/d1/link",
                   "echo through >>tree/link", "echo through >>tree/d1/deep/way/f3", "echo x >tree/d0/f2; rm tree/d0/f2; mkdir tree/d0/f2", "rmdir tree/d0/deep 2>/dev/null; rm -r tree/d0/deep; mkdir tree/d0/deep",
                   "cd tree/d0/deep; echo here >here; cd er; pwd; echo there >>file; mv ../here .; ls", "truncate -s 1 tree/d1/f2", "cp tree/top tree/d0/f0",
                   "exec 3<tree/d1/f1; echo more >>tree/d1/f1; cat tree/d1/f1; rm tree/top", "sed -i s/1/one/ tree/d*/f1"):
        s.same(f"{LOOK} look; {change}; look; {numbers}")


def copied(root):
    for base, directories, files in os.walk(root):
        yield from (os.path.relpath(os.path.join(base, n), root) for n in directories + files if not os.path.islink(os.path.join(base, n)))


def test_only_what_is_changed_is_copied(t):
    if t.mode != "shim":
        raise Skip("the kernel copies by itself")
    s = stage(t, 20, 20)
    changes = "touch tree/new; echo more >>tree/d1/f1; mkdir tree/d2/deep/new; rm tree/d3/f0"
    process = subprocess.Popen(s.run_command() + ["sh", "-c", f"{changes}; touch done; while test ! -e go; do sleep 0.02; done"], cwd=s.work,
                               env=environment(TMPDIR=t.dir))
    wait_for(lambda: os.path.exists(s.work + "/done"), "the changes")
    own = glob.glob(t.path("fixd-run-*/*/own-0")) + glob.glob(t.path("fixd-run-*/copies/*/own-0"))
    assert sorted(copied(own[0])) == ["d1", "d1/f1", "d2", "d2/deep", "d2/deep/new", "d3", "new"]
    open(s.work + "/go", "w").close()
    assert process.wait(60) == 0


def test_names_of_one_file(t):
    source = t.path("source")
    os.makedirs(source + "/a/b")
    t.write("source/a/one", "hello\n")
    os.link(source + "/a/one", source + "/a/b/two")
    os.link(source + "/a/one", source + "/three")
    t.write("source/a/other", "other\n")
    s = Stage(t, Fixture("tree", "directory", source, "tree"))
    for change in ("echo more >>tree/a/b/two", "rm tree/three; echo more >>tree/a/one", "mv tree/three tree/a/b/four; echo more >>tree/a/b/four",
                   "rm tree/three", "sed -i s/hello/bye/ tree/a/one", "mv tree/three tree/a/other", "mv tree/a/other tree/three; rm tree/a/b/two",
                   "echo new >tree/new; mv tree/new tree/a/one; echo more >>tree/three", "chmod 600 tree/a/one; ln tree/a/b/two tree/five"):
        s.same(f"cd tree/..; {change}; find tree -type f -printf '%n %m %s %p\\n' | sort; grep -r '' tree | sort")


def test_changes_stay_on_one_file_system(t):
    """Who looks through one file system only finds all of a tree, wherever it begins; and nothing is left of the copies."""
    s = stage(t, 3, 3)
    copies = s.run(["sh", "-c", "touch tree/new; readlink $(dirname ${FIXD_SHIM#*:})/copies"]).out.decode().strip()
    assert not copies or not os.path.exists(copies), copies
    if t.mode == "shim" and not copies:
        raise Skip("too little room where trees are: the copies are in the scratch directory")
    subprocess.run("git init -q . && git add -A && git -c user.name=x -c user.email=x@x commit -qm all", shell=True, cwd=t.path("source"), check=True)
    s.same("touch tree/new; find tree -xdev -path tree/.git -prune -o -print | sort; cp -ax tree copied; find copied/d? | sort; cd tree/d1/deep/er; git status --short; cd ../..; echo x >>f1; git status --short")


def test_numbers_stay(t):
    """Of what is copied: who looks at a file before and after opening it must find the same one."""
    if t.mode == "mount":
        raise Skip("overlay file systems have their own")
    s = stage(t, 3, 3)
    if not s.run(["sh", "-c", "readlink $(dirname ${FIXD_SHIM#*:})/copies"]).out:
        raise Skip("too little room where trees are: copies are on another file system")
    s.same("look() { stat -c '%d %i' $1; ls -di $1 | cut -d' ' -f1; ls -ai $(dirname $1) | grep \" $(basename $1)$\" | sed 's/^ *//'; python3 -c 'import os, sys; print(os.fstat(os.open(sys.argv[1], 0)).st_ino)' $1; };"
           "for f in tree/d1 tree/d1/f1 tree/d2/f0 tree/d2/deep/er tree/top; do look $f >before; (echo more >>$f || touch $f/new) 2>/dev/null; look $f >after; cmp before after && echo $f; done;"
           "look tree/d1/f1 >before; mv tree/d1/f1 tree/d0/moved; look tree/d0/moved | head -1 | diff - <(head -1 before); rm tree/d0/moved; echo new >tree/d1/f1; find tree -printf '%i\n' | sort | uniq -d; rm before after")


def test_what_is_moved_out(t):
    """It takes along all that it has, as from one directory of a file system to another."""
    s = stage(t, 2, 2)
    s.same("mkdir out; cd tree; truncate -s 9M s; echo x >>s; mkfifo -m 604 p; touch -d @1000000000 d0/f0 p; chmod 640 d0/f0; ln -s d0/f0 l;"
           "if setfattr -n user.kind -v odd d0/f0 2>&-; then there='getfattr -n user.kind f0'; else there='echo; echo user.kind=\\\"odd\\\"'; fi;"
           "mv s d0/f0 p l ../out; ls -a . d0; cd ../out; stat -c '%n %F %a %s' s f0 p l; stat -c '%n %Y' f0 p; test $(stat -c %b s) -lt 1000 && echo holes;"
           "eval $there | grep -o user.*; cat f0; rm -r ../out")


def test_after_rights_were_given_up(t):
    """What the run has made may be renamed, linked and moved by whoever may natively."""
    if os.geteuid() != 0:
        raise Skip("only root has rights to give up")
    s = stage(t, 2, 2)
    os.chmod(t.dir, 0o755)
    s.same("mkdir -m 777 tree/n; cd tree; setpriv --reuid=65534 --clear-groups sh -c 'echo a >n/a; mv n/a n/b; ln n/b n/c; mkdir n/d; echo x >n/d/x; mv n/d n/e; ls n n/e; mv top n; ls n'; rm -r n")


def test_a_working_directory_that_was_renamed(t):
    """By another process: relative paths are those of the directory, whatever it is called."""
    s = stage(t, 2, 2)
    s.same("mkdir tree/n; cd tree/n; mv ../n ../m; pwd -P; echo x >f; cat ../m/f; mkdir q; cd q; mv ../../m ../../d1/m2; /bin/pwd; echo y >z; cat ../../m2/q/z; cd ../..; ls; mv deep ../deeper; ls ../deeper")
    s.same("echo >>tree/d0/f0; cd tree/d0; mv ../d0 ../d2; pwd -P; ls; cat f0; echo x >new; cd ..; ls; ls d2; mkdir d2/o; cd d2/o; rmdir ../o; echo more >>../f1; cat ../f1")


def test_a_working_directory_that_was_removed(t):
    s = stage(t, 2, 1)
    s.same("mkdir tree/new; cd tree/new; rmdir ../new; ls; touch file 2>&1; cd ..; pwd; ls; cd d0/deep/er; rm -r ../../../d0; cat ../../../d1/f0; ls ../../..; cd ../../../d1; pwd; cat f0")


def test_a_working_directory_that_was_made_again(t):
    """It is another one, of which a relative path says nothing; whoever goes on by its name is in the new one."""
    s = stage(t, 2, 1)
    again = "touch ../n/second; ls; ls .; cat second; touch third; cat ./second; ls ../n; ls -a | wc -l; stat -c %n . ./ ; cd ../n; ls; cat second; pwd"
    for remove in "rmdir ../n", "rmdir $PWD", "perl -e 'unlink(q(../n)) or rmdir(q(../n))'", "mkdir ../o; mv -T ../o ../n; rmdir ../n":
        s.same(f"mkdir tree/n; cd tree/n; {remove}; mkdir ../n; {again}; rm -r ../n")
    s.same(f"mkdir tree/n; cd tree/n; mkdir ../o; mv -T ../o ../n; {again}")


def test_names_of_many_files(t):
    """Looking for the other names of a file does not cost more the more files there are."""
    if t.mode != "shim":
        raise Skip("the kernel copies by itself")
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    source = t.path("source")
    for i in range(20):
        os.makedirs(f"{source}/d{i}")
        t.write(f"source/d{i}/one", "hello\n")
        os.link(f"{source}/d{i}/one", f"{source}/d{i}/two")
    s = Stage(t, Fixture("tree", "directory", source, "tree"))

    def listings(files):
        trace = t.path("trace")
        s.run(["strace", "-f", "-e", "trace=getdents64", "-o", trace, "sh", "-c", "for i in $0; do echo more >>tree/d$i/one; done", files])
        with open(trace) as f:
            return f.read().count("getdents64(")
    few, many = listings("1"), listings("1 2 3 4 5 6 7 8 9 10 11")
    # Two for each directory that is copied, and no more.
    assert many - few <= 10 * 2, (few, many)
    s.same("for i in 1 2 3; do echo more >>tree/d$i/one; done; grep -r . tree | sort; find tree -type f -printf '%n %p\\n' | sort")


def test_directories_that_nobody_may_write_to(t):
    source = t.path("source")
    os.makedirs(source + "/locked")
    t.write("source/locked/file", "hello\n")
    os.chmod(source + "/locked", 0o555)
    s = Stage(t, Fixture("tree", "directory", source, "tree"))
    try:
        s.same("echo more >>tree/locked/file; cat tree/locked/file; stat -c '%a %Y' tree/locked >/dev/null; stat -c %a tree/locked; chmod 700 tree/locked")
    finally:
        os.chmod(source + "/locked", 0o755)


def test_a_file_that_may_not_be_read(t):
    """Somebody else's tree: that file is named, and all others can be changed."""
    if os.geteuid() != 0:
        raise Skip("needs another user")
    if t.mode != "shim":
        raise Skip("somebody else's tree is not mounted")
    if not can_reach(program("fixctl")):
        raise Skip("nobody cannot reach the build directory")
    tree = "echo b >$FIXD_DIR/b; mkdir $FIXD_DIR/d; echo c >$FIXD_DIR/d/c; echo k >$FIXD_DIR/key; chmod 600 $FIXD_DIR/key"
    s = Stage(t, Fixture("tree", "tree", tree, "tree"), settings="allow-users = nobody\n")
    os.chmod(t.dir, 0o755)
    os.makedirs(t.path("tmp"))
    os.chown(t.path("tmp"), NOBODY, NOBODY)
    os.chown(s.work, NOBODY, NOBODY)
    command = s.run_command() + ["sh", "-c", "echo w >>tree/b; echo w >>tree/d/c; cat tree/b tree/d/c; echo w >>tree/key"]
    done = run_as(command, s.work, t.path("tmp"))
    assert done.stdout == b"b\nw\nc\nw\n" and b"tree/key: it cannot be copied into the scratch directory of the run, and is left as it is: Permission denied" in done.stderr, done


def test_links_on_the_disk_into_a_tree(t):
    """That a run has made, by whatever name, and wherever they have been moved to."""
    s = stage(t, 2, 2)
    os.mkdir(t.path("elsewhere"))
    looks = "cat links/file links/deep/er/file 2>&1; ls links links/deep links/all; readlink links/*; find -L links -type f | sort; stat -L -c %F links/*"
    s.same("mkdir links other; ln -s $PWD/tree/d0/f1 links/file; ln -s ../tree/d1/deep links/deep; ln -s tree all; ln -s ../all links/all; ln -s nowhere links/none;"
           f"ln -s links/file chain; look() {{ {looks}; }}; look; echo here >>tree/d0/f1; echo through >>links/file; echo new >links/deep/er/new; look;"
           "cat tree/d0/f1 tree/d1/deep/er/new chain; (cd links/deep; pwd; pwd -P; echo more >>er/file; ls ..); cat tree/d1/deep/er/file;"
           "mv links/file other/moved; echo moved >>other/moved; mv links second; mv second links; look; cp -a links copied; echo copied >>copied/deep/er/new; tail -n 1 links/deep/er/new;"
           "rm other/moved copied/file 2>&1; mkdir links/file; echo a directory >links/file/x; cat links/file/x; mv tree/d0/f1 links/taken; ls -l tree/d0 links | wc -l;"
           "ln chain again; readlink again; cat again 2>&1; rm chain; echo not a link >chain; cat chain; rm -r links/all; ls tree")
    s.same(f"cd {t.path('elsewhere')}; ln -s ${{OLDPWD}}/tree/d1 way; echo x >>$OLDPWD/tree/d1/f0; cat way/f0; echo y >>way/f0; cat way/f0; ls way; rm way")


def test_links_that_were_there_before(t):
    """Beside the tree, and where the command is started: what is written through them is the run's."""
    s = stage(t, 2, 2)
    fresh = s.fresh

    def with_links():
        fresh()
        for name, target in ("latest", "tree"), ("file", "tree/d0/f1"), ("here", "."), ("none", "nowhere"):
            os.symlink(target, os.path.join(s.work, name))

    s.fresh = with_links
    s.fresh()
    s.same("echo x >>latest/d0/f0; cat latest/d0/f0 tree/d0/f0; echo y >>file; cat tree/d0/f1; ls -l latest | wc -l; readlink latest file here; "
           "cat here/tree/d0/f1 here/latest/d0/f1; (cd latest/d1 && echo z >new && pwd && pwd -P); ls latest/d1 tree/d1; cat none 2>&1; "
           "rm latest && ls tree/d1; ln -s tree/d1 latest; ls latest/", twice=True)


def test_directories_of_processes(t):
    """Through the kernel's links to what a process has: another one's or its own, in a fixture or above it, to read and to write."""
    source = t.path("source")
    os.makedirs(source + "/sub")
    for name in "abcdef":
        t.write(f"source/{name}", name + "\n")
    s = Stage(t, Fixture("tree", "directory", source, "tree"))
    script = """
        mkfifo gate; (cd tree; exec 7<.; exec cat ../gate) & other=$!
        until [ "$(readlink /proc/$other/fd/7)" ] && [ "$(readlink /proc/$other/exe)" = /usr/bin/cat ]; do :; done
        exec 8<. 9<tree
        echo 1 >/proc/$other/cwd/a; echo 2 >/proc/$other/fd/7/b; (cd tree/sub; echo 3 >/proc/self/cwd/../c); echo 4 >/proc/self/root$PWD/tree/d
        echo 5 >/proc/self/fd/8/tree/e; echo 6 >/dev/fd/9/f; echo 7 >/proc/$$/cwd/tree/sub/new
        cat tree/a /proc/$$/fd/8/tree/b /dev/fd/8/tree/c /proc/thread-self/cwd/tree/d /proc/$$/task/$$/cwd/tree/e /proc/$other/cwd/f tree/sub/new
        ls /proc/$$/cwd/tree /proc/self/fd/9/sub | sed s/$$/N/; cat /proc/self/cwd/tree/none /proc/$other/cwd/../none 2>&1 | sed s/$other/N/; echo >gate; wait; rm gate"""
    s.same(script)


def test_capabilities(t):
    """Which a file loses that is given away: it has its owner first."""
    if os.geteuid() != 0 or not shutil.which("setcap"):
        raise Skip("as root, with setcap")
    source = t.path("source")
    os.makedirs(source)
    for name in "abc":
        shutil.copy("/bin/true", os.path.join(source, name))
        if subprocess.run(["setcap", "cap_net_raw+ep", os.path.join(source, name)], capture_output=True).returncode:
            raise Skip("the file system has no capabilities")
    s = Stage(t, Fixture("tree", "directory", source, "tree"))
    s.same("cd tree; chmod 711 a; mv b b2; ln c c2; getcap a b2 c c2")
    done = s.run(["sh", "-c", "touch tree/a; ln tree/b tree/d"], "--changes")
    assert done.err.decode().splitlines() == [f"new {s.work}/tree/d"], done.__dict__


def test_access_control_lists(t):
    """A copy has those of the original, and none that its directory would give it: not of the daemon's copy, and not of the run's."""
    for program_ in ("setfacl", "getfacl"):
        if not shutil.which(program_):
            raise Skip(f"{program_} is not installed")
    source = t.path("source")
    os.makedirs(source + "/sub/deep")
    for name, mode in (("sub/a", 0o640), ("sub/deep/b", 0o600), ("sub/list", 0o600)):
        os.chmod(t.write("source/" + name, name + "\n"), mode)
    if subprocess.run(["setfacl", "-d", "-m", "u:nobody:rwx", source + "/sub"], capture_output=True).returncode:
        raise Skip("the file system has no access control lists")
    subprocess.run(["setfacl", "-m", "u:daemon:r", source + "/sub/list"], check=True)
    os.mkfifo(source + "/sub/pipe")
    subprocess.run(["setfacl", "-b", source + "/sub/pipe"], check=True)
    os.chmod(source + "/sub/pipe", 0o640)
    s = Stage(t, Fixture("tree", "directory", source, "tree"))
    all_of_them = "getfacl -ncp tree/sub tree/sub/a tree/sub/deep tree/sub/deep/b tree/sub/list tree/sub/pipe; stat -c %A tree/sub/a tree/sub/pipe"
    s.same(f"{all_of_them}; chmod 600 tree/sub/pipe; chmod 640 tree/sub/pipe; echo more >>tree/sub/a; echo more >>tree/sub/deep/b; echo more >>tree/sub/list; {all_of_them}; echo >tree/sub/new; getfacl -ncp tree/sub/new")


if __name__ == "__main__":
    main(sys.modules[__name__], modes)
