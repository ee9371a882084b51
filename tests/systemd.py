# SPDX-License-Identifier: MIT
"""The units of contrib/systemd under the real service manager: systemd as pid 1 of namespaces of its own, whose /etc, /run and
/usr/local are copies. Only where the machine itself is not run by systemd, and as root: a container."""

import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "daemon"))
import harness  # noqa: E402
from harness import Skip, wait_for  # noqa: E402
from manual import runs, text  # noqa: E402

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "contrib", "systemd")
SYSTEMD = "/lib/systemd/systemd"

# The manager's own units are not there: fixd's are all that is started.
BOOT = r"""
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /lib/systemd/system
for dir in /etc /usr/local /var/lib /var/tmp; do
	mkdir -p "/run/upper$dir" "/run/work$dir"
	mount -t overlay overlay -o "lowerdir=$dir,upperdir=/run/upper$dir,workdir=/run/work$dir" "$dir"
done
rm -rf /etc/systemd/system/*
for unit in sysinit basic sockets shutdown multi-user network fixd-test; do
	printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $unit >/lib/systemd/system/$unit.target
done
exec env -i container=fixd-test PATH="$PATH" SYSTEMD_LOG_TARGET=console LD_LIBRARY_PATH= \
	/lib/systemd/systemd --system --unit=fixd-test.target --log-target=console --show-status=0
"""

END = b"""[Unit]
DefaultDependencies=no
Requires=shutdown.target
After=shutdown.target
"""

INI = """[fixd]
allow-users = nobody
[policy]
max-age = none
[fixture who]
command = id -un; date +%N
teardown = echo who >>/var/lib/fixd/torn
[fixture server]
service = echo $$; exec sleep 1000
teardown = echo server >>/var/lib/fixd/torn
"""

# What logind would start, without what needs a bus.
MANAGER_OF_A_USER = b"""[Service]
User=nobody
Type=notify
Environment=XDG_RUNTIME_DIR=/run/user/65534 HOME=/run/home
ExecStart=/lib/systemd/systemd --user
KillMode=mixed
Delegate=yes
"""

INI_OF_A_USER = b"""[fixture who]
command = id -un; date +%N
[fixture server]
service = echo $$; exec sleep 1000
teardown = echo server >>/run/home/torn
"""


def units(t):
    """Both pairs, as `make install` would have them."""
    for kind, sub in (("system", ""), ("user", "user")):
        os.makedirs(t.path(kind))
        with open(os.path.join(SOURCE, sub, "fixd.service.in")) as f:
            t.write(f"{kind}/fixd.service", f.read().replace("@bindir@", "/usr/local/bin"))
        with open(os.path.join(SOURCE, sub, "fixd.socket")) as f:
            t.write(f"{kind}/fixd.socket", f.read())


class Machine:
    def __init__(self, t, dropin=""):
        if os.geteuid() != 0:
            raise Skip("only root can be a machine")
        if os.path.exists("/run/systemd/system"):
            raise Skip("this machine is run by systemd itself")
        if not os.path.exists(SYSTEMD):
            raise Skip("there is no systemd")
        if os.environ.get("FIXD_SANITIZERS"):
            raise Skip("the sanitizer needs what the unit forbids")
        self.t = t
        units(t)
        self.log = open(t.path("console"), "wb")
        self.process = subprocess.Popen(["unshare", "-m", "-p", "-f", "-u", "-i", "--mount-proc", "--kill-child", "sh", "-c", BOOT],
                                        stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        finish = t.finish

        def finish_and_halt(failed):
            if failed and self.init():
                print("\n".join("# " + line for line in (self.console() + self.run("cat /run/fixd.log", check=False)).splitlines()[-60:]))
            self.process.kill()
            self.process.wait()
            self.log.close()
            finish(failed)
        t.finish = finish_and_halt
        wait_for(lambda: self.process.poll() is not None or self.init() and
                 self.run("systemctl is-active fixd-test.target", check=False) == "active\n", "the service manager")
        if self.process.poll() is not None:
            raise Skip("the service manager does not start here: " + (self.console().splitlines() or ["?"])[-1])
        for name in ("fixd", "fixctl", "fixd-builder"):
            self.put(f"/usr/local/bin/{name}", open(harness.program(name), "rb").read(), 0o755)
        for name in ("fixd.service", "fixd.socket"):
            self.put(f"/etc/systemd/system/{name}", open(t.path("system/" + name), "rb").read())
        self.put("/etc/systemd/system/fixd.service.d/test.conf", b"[Service]\nStandardError=append:/run/fixd.log\n" + dropin.encode())
        for kind in ("sysusers", "tmpfiles"):
            self.put(f"/etc/{kind}.d/fixd.conf", open(os.path.join(SOURCE, kind, "fixd.conf"), "rb").read())
            self.run(f"systemd-{kind} {'--create ' if kind == 'tmpfiles' else ''}/etc/{kind}.d/fixd.conf")

    def console(self):
        with open(self.t.path("console"), errors="replace") as f:
            return f.read()

    def init(self):
        """Our number of its pid 1."""
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
                child = f.read().split()[0]
            with open(f"/proc/{child}/comm") as f:
                return child if f.read() == "systemd\n" else None
        except (OSError, IndexError):
            return None

    def run(self, command, check=True, user=None):
        argv = ["nsenter", "-t", self.init(), "-r", "-m", "-p", "-u", "-i"]
        if user:
            argv += ["setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups"]
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        done = subprocess.run(argv + ["sh", "-c", "cd /; " + command], capture_output=True, text=True, timeout=harness.LIMIT, env=env)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def put(self, path, data, mode=0o644):
        subprocess.run(["nsenter", "-t", self.init(), "-r", "-m", "sh", "-c", f"mkdir -p {os.path.dirname(path)}; cat >{path}; chmod {mode:o} {path}"],
                       input=data, check=True, timeout=harness.LIMIT)

    def start(self, ini=INI, command="systemctl start fixd.socket"):
        self.put("/etc/fixd/fixd.ini", ini.encode())
        self.run(f"systemctl daemon-reload; {command}")

    def get(self, name, **how):
        return self.run(f"fixctl get {name}", **how)

    def show(self, what):
        return self.run(f"systemctl show -P {what} fixd.service").strip()

    def running(self, pid):
        return bool(self.run(f"kill -0 {pid} && echo yes", check=False))


def analyze(t, *args):
    """With an environment of its own: for a user's units it runs the machine's generators, which a sanitizer's runtime would hang."""
    os.makedirs(t.path("runtime"), exist_ok=True)
    env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "XDG_RUNTIME_DIR": t.path("runtime"), "HOME": t.dir}
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=harness.LIMIT, env=env)


def test_units_are_right(t):
    if not os.path.exists("/usr/bin/systemd-analyze"):
        raise Skip("there is no systemd-analyze")
    units(t)
    for kind in ("system", "user"):
        unit = open(t.path(kind + "/fixd.service")).read()
        t.write(kind + "/fixd.service", unit.replace("/usr/local/bin/fixd", harness.program("fixd")))
        manager = ["--user"] if kind == "user" else []
        done = analyze(t, *manager, "verify", "--man=no", t.path(kind + "/fixd.service"), t.path(kind + "/fixd.socket"))
        assert done.returncode == 0 and not done.stderr + done.stdout, done.stderr + done.stdout
    done = analyze(t, "security", "--offline=yes", "--threshold=20", t.path("system/fixd.service"))
    assert done.returncode == 0, done.stdout + done.stderr
    exposure = float(re.search(r"exposure level for fixd.service: ([0-9.]+)", done.stdout)[1])
    assert exposure <= 2.0, done.stdout


@runs("fixd.8 The service manager 1")
def test_a_day_of_the_machine(t):
    m = Machine(t)
    m.start(command=text("fixd.8 The service manager 1").removeprefix("# "))
    assert m.show("ActiveState") == "inactive"
    # The socket starts it; whoever asks.
    first = m.get("who", user="nobody")
    assert first.splitlines()[0] == "fixd" and m.show("ActiveState") == "active"
    server = m.get("server").strip()
    main = m.show("MainPID")
    # Its file again.
    m.put("/etc/fixd/fixd.ini", (INI + "[fixture more]\ncommand = echo more\n").encode())
    m.run("systemctl reload fixd")
    assert m.get("more") == "more\n" and m.show("MainPID") == main
    # Restarted: nothing is lost.
    m.run("systemctl restart fixd")
    assert m.show("MainPID") != main and m.get("who") == first and m.get("server").strip() == server and m.running(server)
    # Killed: neither.
    main = m.show("MainPID")
    m.run(f"kill -KILL {main}")
    wait_for(lambda: m.show("ActiveState") == "active" and m.show("MainPID") not in (main, "0"), "it to be started again")
    assert m.get("who") == first and m.get("server").strip() == server and m.running(server)
    # Restarted by itself, as the manager sees.
    main = m.show("MainPID")
    m.run("fixctl restart")
    assert m.get("who") == first and m.show("MainPID") == main and m.show("ActiveState") == "active"
    status = json.loads(m.run("fixctl --json status"))["daemon"]
    assert status["socket"] == "/run/fixd/socket" and status["io"] == "io_uring"
    assert not m.run("cat /var/lib/fixd/torn", check=False)
    # Stopped: all is torn down, once.
    m.run("systemctl stop fixd.socket fixd.service")
    wait_for(lambda: sorted(m.run("cat /var/lib/fixd/torn", check=False).split()) == ["server", "who"], "everything to be torn down")
    wait_for(lambda: not m.running(server), "the service to end")
    wait_for(lambda: not m.run("ls /run/fixd/socket", check=False), "the socket to go")
    wait_for(lambda: not m.run("pgrep -u fixd", check=False), "its processes to end")
    # Other tests, of other users, have their trees there at the same time.
    wait_for(lambda: not m.run("find /dev/shm -maxdepth 1 -user fixd"), "its trees to go")
    # And started again, from nothing.
    m.run("systemctl start fixd.socket")
    assert m.get("who") != first
    # Killed with the machine it would leave its note to the next one, whose /dev/shm is the same.
    m.run("systemctl stop fixd.socket fixd.service")


def test_it_hangs(t):
    m = Machine(t, "WatchdogSec=1\n")
    m.start()
    first = m.get("who")
    main = m.show("MainPID")
    m.run(f"kill -STOP {main}")
    wait_for(lambda: m.show("ActiveState") == "active" and m.show("MainPID") not in (main, "0"), "another one")
    assert m.get("who") == first


def test_wrong_file(t):
    m = Machine(t)
    m.start("[fixture\n")
    assert "fixctl: " in m.run("fixctl get who 2>&1", check=False)
    wait_for(lambda: m.show("ActiveState") == "failed", "it to give up")
    assert m.show("ExecMainStatus") == "78" and m.show("NRestarts") == "0"


@runs("fixd.8 The service manager 2")
def test_builders_of_other_users(t):
    m = Machine(t, text("fixd.8 The service manager 2").removeprefix("[Service]\n"))
    m.start("[fixd]\nallow-users = nobody\n[fixture who]\ncommand = id -un\nuser = nobody\n[fixture me]\ncommand = id -un\n")
    assert m.get("who") == "nobody\n" and m.get("me", user="nobody") == "root\n"


def test_the_end_of_the_machine(t):
    m = Machine(t)
    m.start("[fixture server]\nservice = echo $$; exec sleep 1000\nteardown = pgrep -x fixd >/var/lib/fixd/torn\n")
    m.get("server")
    main = m.show("MainPID")
    m.put("/lib/systemd/system/exit.target", END)
    m.run("systemctl daemon-reload; systemctl --no-block exit")
    # By the daemon, while the machine still has what this needs.
    wait_for(lambda: m.run("cat /var/lib/fixd/torn", check=False) == main + "\n", "the service to be torn down")


@runs("fixd.8 The service manager 3")
def test_units_of_a_user(t):
    m = Machine(t)

    def run(command, **how):
        return m.run(f"export XDG_RUNTIME_DIR=/run/user/65534 HOME=/run/home; {command}", user="nobody", **how)

    def main():
        return run("systemctl --user show -P MainPID fixd.service").strip()

    for name in ("fixd.service", "fixd.socket"):
        m.put(f"/etc/systemd/user/{name}", open(t.path("user/" + name), "rb").read())
    m.put("/etc/systemd/system/manager.service", MANAGER_OF_A_USER)
    m.put("/run/home/.config/fixd/fixd.ini", INI_OF_A_USER)
    m.run("mkdir -p /run/user/65534; chown -R nobody /run/user/65534 /run/home; systemctl daemon-reload; systemctl start manager")
    run(text("fixd.8 The service manager 3").removeprefix("$ "))
    assert main() == "0"
    first, server = run("fixctl get who"), run("fixctl get server").strip()
    before = main()
    assert first.splitlines()[0] == "nobody" and json.loads(run("fixctl --json status"))["daemon"]["socket"] == "/run/user/65534/fixd/socket"
    # Nothing is lost by a restart or a crash.
    run("systemctl --user restart fixd")
    assert main() != before and run("fixctl get who") == first and run("fixctl get server").strip() == server and m.running(server)
    before = main()
    m.run(f"kill -KILL {before}")
    wait_for(lambda: main() not in (before, "0"), "it to be started again")
    assert run("fixctl get who") == first and run("fixctl get server").strip() == server and m.running(server)
    # It ends with what the user has logged in to.
    m.run("systemctl stop manager")
    wait_for(lambda: m.run("cat /run/home/torn", check=False) == "server\n", "the service to be torn down")
    wait_for(lambda: not m.running(server) and not m.run("pgrep -u nobody fixd", check=False), "its processes to end")


if __name__ == "__main__":
    harness.main(sys.modules[__name__], lambda: [("systemd", [])])
