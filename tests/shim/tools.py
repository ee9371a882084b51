#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs that know nothing of fixd, on the WordNet dictionary, a database, a repository and a source tree."""

import os
import shutil
import sys

from stage import Fixture, Skip, Stage, main, modes

WORDNET = "/usr/share/wordnet"


def wordnet(*, tree=True, file=True):
    if not os.path.isdir(WORDNET):
        raise Skip("wordnet-base is not installed")
    return [f for f, wanted in [(Fixture("dict", "directory", WORDNET, "data/dict"), tree),
                                (Fixture("verbs", "file", WORDNET + "/data.verb", "data/verbs.txt"), file)] if wanted]


def need(*programs):
    for name in programs:
        if not shutil.which(name):
            raise Skip(f"{name} is not installed")


def test_reading_files(t):
    s = Stage(t, *wordnet())
    s.same("cat data/verbs.txt | sha256sum; sha256sum data/dict/*.noun data/verbs.txt")
    s.same("wc data/verbs.txt data/dict/*; head -n 3 data/verbs.txt; tail -n 3 data/dict/data.adj; tail -c 100 data/verbs.txt")
    s.same("sort data/verbs.txt | sha256sum; sort -u data/dict/index.adv data/dict/noun.exc | cksum; uniq data/verbs.txt | md5sum")
    s.same("cmp data/verbs.txt data/dict/data.verb; diff data/verbs.txt data/dict/data.verb; echo $?; diff -q data/dict/data.adj data/dict/data.adv")
    s.same("cut -c1-20 data/verbs.txt | md5sum; tr a-z A-Z <data/verbs.txt | md5sum; dd if=data/verbs.txt bs=1000 skip=3 count=5 status=none | md5sum")
    s.same("awk 'END { print NR }' data/verbs.txt data/dict/verb.exc; sed -n 100,110p data/verbs.txt; od -c data/verbs.txt | sed -n 1,5p")


def test_looking_at_files(t):
    s = Stage(t, *wordnet())
    s.same("ls data data/dict; ls -ln --time-style=full-iso data/dict data/verbs.txt; ls -d data/verbs.txt data/dict")
    s.same("stat -c '%n %s %a %u %g %F %h %Y' data/verbs.txt data/dict/data.noun; stat -c '%n %a %F %Y' data/dict")
    s.same("test -f data/verbs.txt && test -r data/verbs.txt && test -w data/verbs.txt && test ! -x data/verbs.txt && echo as it should")
    s.same("test -d data/dict -a -w data/dict -a -x data/dict && test ! -e data/dict/none && test ! -e data/none && echo as it should")
    s.same("file -b data/verbs.txt 2>&1 | head -1; realpath data/dict data/verbs.txt data/../data/dict/../verbs.txt")
    s.same("cat data/verbs.txt/x; cat data/dict; ls data/dict/nothing; cat data/dict/nothing; readlink data/verbs.txt; echo $?")
    s.same("cd data/dict; pwd; /bin/pwd; ls ..; cat ../verbs.txt | wc; cd ..; pwd; ls; cd dict/..; /bin/pwd; cat dict/verb.exc | wc")


def test_walking_trees(t):
    s = Stage(t, *wordnet())
    s.same("find . | sort; find data -name '*.exc' -size +30k | sort; find data/dict -type f -newermt 2010-01-01 | sort")
    s.same("find data -type f -exec wc -c {} + | sort; find . -maxdepth 2 -printf '%p %y %s\\n' | grep -v dict | grep verbs | sort")
    s.same("grep -r 'zymosis' data | cut -c1-60 | sort; grep -c dog data/verbs.txt data/dict/*; grep -rl aardvark . | sort")
    s.same("cp -r data copy; diff -r data copy && ls -R copy; cp -a data/dict exact; ls -ln --time-style=full-iso exact")
    s.same("tar cf all.tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner data; tar tvf all.tar; mkdir out; tar xf all.tar -C out; diff -r data out/data; rm all.tar")
    s.same("du -b --apparent-size data/dict/* | sort -k2; for f in data/*; do echo $f; done; echo data/dict/*.adv data/v*")
    s.same("cd data/dict && find . -name 'd*' | sort && cd - && tar cf - -C data dict | tar tf - | sort")


def test_changing_files(t):
    s = Stage(t, *wordnet())
    s.same("sed -i s/breathe/BREATHE/ data/verbs.txt; grep -c BREATHE data/verbs.txt; ls data; sha256sum data/verbs.txt", twice=True)
    s.same("sed -i.bak s/the/THE/ data/dict/verb.exc; ls data/dict; md5sum data/dict/verb.exc*; ls -ln data/dict/verb.exc.bak | cut -c1-10", twice=True)
    s.same("echo more >> data/verbs.txt; tail -2 data/verbs.txt; wc -c <data/verbs.txt; echo only this > data/verbs.txt; cat data/verbs.txt", twice=True)
    s.same("rm data/verbs.txt; ls data; cat data/verbs.txt; test -e data/verbs.txt; echo $?; echo new > data/verbs.txt; ls data; cat data/verbs.txt", twice=True)
    s.same("mkdir -p data/dict/a/b; mv data/dict/verb.exc data/dict/a/b/; ln -s b/verb.exc data/dict/a/link; wc data/dict/a/link; find data/dict/a | sort; rm -r data/dict/a; ls data/dict | wc -l", twice=True)
    s.same("mv data/verbs.txt elsewhere.txt; ls data; md5sum elsewhere.txt; echo x | cat - elsewhere.txt > y; mv y data/verbs.txt; md5sum data/verbs.txt", twice=True)
    s.same("chmod 600 data/verbs.txt; stat -c %a data/verbs.txt; touch -d @1000 data/verbs.txt data/dict/adv.exc; stat -c %Y data/verbs.txt data/dict/adv.exc; truncate -s 10 data/verbs.txt; cat data/verbs.txt", twice=True)
    s.same("cp data/dict/adv.exc data/verbs.txt; cmp data/verbs.txt data/dict/adv.exc && cp data/verbs.txt data/dict/new; ls data/dict/new; dd if=/dev/zero of=data/verbs.txt bs=1 count=3 conv=notrunc status=none; od -c data/verbs.txt | head -2")
    s.same("exec 5<>data/verbs.txt; read -u 5 line; echo \"$line\"; echo xyz >&5; sed -n 1,3p data/verbs.txt; exec 5>&-; >data/verbs.txt; wc -c data/verbs.txt")
    s.same("rm -rf data/dict/*; ls -A data/dict; cd data/dict; echo a >b; mkdir c; cp b c; find . | sort; rmdir c; rm -r c; ls")
    s.same("cd data/dict; sed -i s/a/b/ adv.exc; cat adv.exc; (cd /; cat $OLDPWD/adv.exc); bash -c 'cat adv.exc'")


def test_processes_see_each_others_changes(t):
    s = Stage(t, *wordnet())
    s.same("ls data/dict | xargs -P 4 -n 1 -I{} sh -c 'wc -c data/dict/{}' | sort")
    s.same("seq 40 | xargs -P 4 -n 1 -I{} sh -c 'echo {} > data/dict/n{}'; cat data/dict/n* | sort -n | tr '\\n' ' '", twice=True)
    s.same("seq 40 | xargs -P 4 -n 1 -I{} sh -c 'echo {} >> data/verbs.txt'; tail -n 40 data/verbs.txt | sort -n | tr '\\n' ' '", twice=True)
    s.same("(sleep 0.1; echo late > data/dict/late) & wait; cat data/dict/late; env -i /bin/cat data/dict/late; env -i sh -c 'ls data/dict | wc -l'")


PYTHON = r"""
import gc, glob, hashlib, mmap, multiprocessing, os, pathlib, shutil, subprocess, sys, tempfile
def digest(data): return hashlib.sha256(data).hexdigest()[:16]
def in_child(path, queue=None):
    with open(path, "rb") as f:
        f.seek(100)
        return os.getcwd(), digest(f.read(5000))
if __name__ == "__main__":
    print(digest(open("data/verbs.txt", "rb").read()), os.path.getsize("data/verbs.txt"))
    with open("data/verbs.txt", "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
        print(digest(m[:]), m.find(b"breathe"))
    with open("data/verbs.txt", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[:5] = b"HELLO"
    print(open("data/verbs.txt", "rb").read(12))
    print(sorted((e.name, e.is_dir(), e.is_file(), e.stat().st_size) for e in os.scandir("data/dict")))
    print(sorted((e.name, e.is_dir()) for e in os.scandir("data")))
    print(sorted(glob.glob("data/**/*.exc", recursive=True)), sorted(map(str, pathlib.Path("data").rglob("*.adv"))))
    print([(b, sorted(d), sorted(f)) for b, d, f in os.walk("data")])
    print([(b, sorted(d), sorted(f)) for b, d, f, _ in os.fwalk("data")])
    shutil.copytree("data", "copy")
    print(sorted(os.listdir("copy/dict")), os.stat("copy/dict/adv.exc").st_mtime_ns == os.stat("data/dict/adv.exc").st_mtime_ns)
    shutil.rmtree("copy")
    print(os.path.realpath("data/dict/../verbs.txt"), os.path.abspath("data/dict"), os.path.samefile("data/dict", "data/dict/."))
    print(subprocess.run(["wc", "-l", "data/verbs.txt"], capture_output=True).stdout)
    print(subprocess.run(["ls", "-l", "."], capture_output=True, cwd="data/dict", env={}).stdout.count(b"\n"))
    print(subprocess.run(["pwd"], capture_output=True, cwd="data/dict", close_fds=True).stdout)
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(method, pool.map(in_child, ["data/verbs.txt", "data/dict/data.adv"] * 2))
            pool.close()
            pool.join()
        del pool
        gc.collect()
    os.chdir("data/dict")
    print(os.getcwd(), len(os.listdir()), open("verb.exc").readline())
    with tempfile.NamedTemporaryFile("w", dir=".", suffix=".x") as f:
        print(os.path.dirname(os.path.abspath(f.name)), os.path.exists(f.name), f.name.endswith(".x"))
    d = tempfile.mkdtemp(dir="."); print(os.path.isdir(d)); os.rmdir(d)
    os.rename("verb.exc", "renamed"); os.replace("adv.exc", "noun.exc"); os.link("renamed", "linked"); os.symlink("renamed", "soft")
    print(sorted(os.listdir()), os.readlink("soft"), os.lstat("soft").st_size, os.stat("linked").st_nlink)
    fd = os.open(".", os.O_RDONLY)
    print(os.stat("renamed", dir_fd=fd).st_size, os.path.exists("/proc/self/fd/%d/soft" % fd), sorted(os.listdir(fd))[:3])
    os.unlink("soft", dir_fd=fd); os.mkdir("made", dir_fd=fd); os.chmod("made", 0o700, dir_fd=fd); print(oct(os.stat("made").st_mode))
    os.fchdir(fd); print(os.getcwd()); os.chdir(".."); print(os.getcwd(), sorted(os.listdir()))
    try: open("dict", "w")
    except OSError as e: print(e)
    try: os.mkdir("dict")
    except OSError as e: print(e)
    try: os.open("verbs.txt", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    except OSError as e: print(e)
    try: os.rmdir("verbs.txt")
    except OSError as e: print(e)
    with open("verbs.txt", "rb") as f, open("../out", "wb") as g: print(os.sendfile(g.fileno(), f.fileno(), 0, 1000))
    print(os.access("verbs.txt", os.W_OK), os.access("verbs.txt", os.X_OK), os.access("dict", os.X_OK))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-c", "import os; print(os.getcwd(), os.path.getsize('verbs.txt'))"])
"""


def test_python(t):
    s = Stage(t, *wordnet())
    program = t.write("program.py", PYTHON)
    s.leaves_processes = True  # multiprocessing has one that ends when it notices that nobody is there any more
    s.same([sys.executable, program], twice=True)


PERL = r"""
use strict; use File::Find; use File::Copy; use Cwd; use File::Temp qw(tempfile); use File::Path; use File::Spec;
$| = 1;
open(my $f, '<', 'data/verbs.txt') or die; my $n = 0; $n++ while <$f>; print "$n\n"; close $f;
my @found; find(sub { push @found, $File::Find::name . (-d $_ ? '/' : ' ' . -s $_) }, 'data'); print "$_\n" for sort @found;
print join(' ', sort glob('data/dict/*.exc')), "\n"; print Cwd::abs_path('data/dict'), "\n";
copy('data/dict/adv.exc', 'data/dict/copied') or die; print -s 'data/dict/copied', "\n";
chdir 'data/dict' or die; print getcwd, "\n"; opendir(my $d, '.') or die; print scalar(grep { !/^\./ } readdir $d), "\n"; closedir $d;
rename 'copied', 'again' or die; unlink 'again' or die; mkpath('x/y/z'); print -d 'x/y/z' ? "made\n" : "not\n"; rmtree('x');
my ($t, $name) = tempfile('tmpXXXX', DIR => '.'); print $t "hello\n"; close $t; print -s $name, "\n"; unlink $name;
open(my $p, '-|', 'wc -l <verb.exc') or die; print <$p>; close $p;
system('head -c 20 ../verbs.txt; echo'); print `sh -c 'pwd'`;
if (my $pid = fork) { waitpid $pid, 0; print $? >> 8, "\n" } else { open(my $g, '>>', 'adv.exc'); print $g "child\n"; close $g; exit 7 }
open($f, '<', 'adv.exc'); my @l = <$f>; print $l[-1]; utime 5, 6, 'adv.exc'; print join(' ', (stat 'adv.exc')[8, 9]), "\n";
exec 'cat', 'adv.exc';
"""


def test_perl(t):
    need("perl")
    s = Stage(t, *wordnet())
    s.same(["perl", t.write("program.pl", PERL)], twice=True)


def test_sqlite(t):
    need("sqlite3")
    make = ("rm -f $FIXD_DIR/words.db; sqlite3 $FIXD_DIR/words.db \"create table words(word text, n int); "
            "with recursive c(i) as (select 1 union all select i+1 from c where i<20000) insert into words select 'w'||i, i from c;\"")
    tree = Fixture("db", "tree", make, "db")
    blob = t.path("plain.db")
    os.environ["FIXD_DIR"] = t.dir
    import subprocess
    subprocess.run(make.replace("words.db", "plain.db"), shell=True, check=True, env={**os.environ, "FIXD_DIR": t.dir})
    s = Stage(t, tree, Fixture("plain", "file", blob, "data/plain.db"))
    for path in ("db/words.db", "data/plain.db"):
        s.same(f"sqlite3 {path} 'select count(*), sum(n) from words; pragma integrity_check'", twice=True)
        s.same(f"sqlite3 {path} \"begin; update words set n = n + 1; delete from words where n > 100; commit; select count(*) from words\"; "
               f"sqlite3 {path} 'select count(*), sum(n) from words'; ls $(dirname {path})", twice=True)
        s.same(f"sqlite3 {path} \"begin; delete from words; rollback; select count(*) from words\"; sqlite3 {path} 'pragma journal_mode=wal; "
               f"insert into words values(1, 2); select count(*) from words' ; ls $(dirname {path}); sqlite3 {path} vacuum; sqlite3 {path} .schema")
        s.same(f"sqlite3 -readonly {path} 'select max(n) from words'; sqlite3 'file:{path}?mode=ro' 'select min(n) from words'")


GIT = ("cd $FIXD_DIR && git init -q -b main . && for i in 1 2 3; do echo line $i >> a.txt; mkdir -p d$i; echo $i > d$i/f; git add -A; "
       "GIT_AUTHOR_DATE=\"2020-01-0$i 00:00\" GIT_COMMITTER_DATE=\"2020-01-0$i 00:00\" git -c user.name=A -c user.email=a@b commit -qm \"c$i\"; done; "
       "git tag v1")


def test_git(t):
    need("git")
    s = Stage(t, Fixture("repo", "tree", GIT, "repo"))
    identity = "export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@b GIT_AUTHOR_DATE='2021-01-01 00:00' GIT_COMMITTER_DATE='2021-01-01 00:00' HOME=$PWD; "
    s.same(identity + "cd repo && git log --oneline --stat && git status --short && git show HEAD:a.txt && git rev-parse HEAD && git rev-parse --show-toplevel", twice=True)
    s.same(identity + "cd repo && echo more >> a.txt && git diff && git commit -qam four && git log --format='%H %s' && git status && git fsck 2>&1", twice=True)
    s.same(identity + "cd repo && git checkout -q -b side HEAD~1 && echo s > s.txt && git add s.txt && git commit -qm side && git merge -q -m m main && git log --oneline --graph && ls && git gc -q && git log --oneline | wc -l && git stash list")
    s.same(identity + "git clone -q repo other && cd other && git log --oneline && git -C ../repo worktree list && cd ../repo/d1 && git log --oneline -- f && git mv f g && git status --short; rm -rf ../../other")
    s.same(identity + "cd repo && git ls-files -s && git grep -n line && git archive HEAD | tar tf - && git bisect start -q HEAD HEAD~2 2>&1 | cat && git reset -q --hard HEAD~1 && cat a.txt")


def test_make_and_gcc(t):
    need("make", "gcc")
    make = ("cd $FIXD_DIR && mkdir -p src include && printf '#include \"deep.h\"\\nint twice(int);\\n' > include/twice.h && echo '#define DEEP 5' > include/deep.h && "
            "printf '#include \"../include/twice.h\"\\nint twice(int x) { return DEEP * x; }\\n' > src/twice.c && "
            "printf '#include <stdio.h>\\n#include \"twice.h\"\\nint main(void) { printf(\"%%d %%s\\\\n\", twice(21), __FILE__); return 3; }\\n' > src/main.c && "
            "printf 'CFLAGS = -Iinclude -g\\nprogram: src/main.o src/twice.o\\n\\tgcc -o $@ $^\\nsrc/%%.o: src/%%.c include/*.h\\n\\tgcc $(CFLAGS) -c -o $@ $<\\nclean:\\n\\trm -f src/*.o program\\n' > Makefile")
    s = Stage(t, Fixture("code", "tree", make, "code"))
    s.same("cd code && make && ./program; echo $?; make; touch include/deep.h; make -s; ls . src; make clean; ls src", twice=True)
    s.same("make -C code -j 4 2>&1 | sort; code/program; cp code/program here; ./here; (cd code/src && gcc -I../include -MM main.c && gcc -I ../include -c main.c && ls); rm here")
    s.same("gcc -Icode/include -o out code/src/main.c code/src/twice.c && ./out; rm out; gcc -Icode/include -E code/src/main.c | grep '^# ' | grep code | sort -u")


def test_bash_redirections(t):
    s = Stage(t, *wordnet())
    s.leaves_processes = True  # bash does not wait for those of <()
    s.same("while read -r a b; do echo \"$b\"; done < data/dict/adv.exc; mapfile -t lines < data/dict/verb.exc; echo ${#lines[@]}")
    s.same("cat <(head -2 data/verbs.txt) <(tail -1 data/verbs.txt); { echo a; echo b; } > data/dict/two; cat data/dict/two; cat data/dict/two >> data/dict/two2; cat data/dict/two2")
    s.same("exec 7>data/dict/log; echo one >&7; echo two >&7; exec 7>&-; cat data/dict/log; set -o noclobber; echo x > data/dict/log; echo x >| data/dict/log; cat data/dict/log")
    s.same("source <(echo 'echo sourced'); echo 'echo from a script \"$0\" \"$@\"' > data/dict/s.sh; bash data/dict/s.sh a b; chmod +x data/dict/s.sh; . data/dict/s.sh c; data/dict/s.sh d e")
    s.same("printf '#!/bin/sh\\necho \"$0\" \"$@\"; pwd\\n' > data/dict/t.sh; chmod +x data/dict/t.sh; data/dict/t.sh 1 2; cd data/dict; ./t.sh 3; PATH=$PWD:$PATH t.sh 4; env -i ./t.sh 5; (cd ..; dict/t.sh 6); find . -name t.sh -exec {} 7 \\;")


if __name__ == "__main__":
    main(sys.modules[__name__], modes)
