# SPDX-License-Identifier: MIT
"""Daemons that see mounts of their own."""

import os
import subprocess

from harness import Skip


def in_a_mount_namespace(t, script):
    """The daemon of the test in a mount namespace of its own, in which the script was run before."""
    prefix = ["unshare", "-m", "--propagation", "private", "sh", "-ec", script + '\nexec "$@"', "sh"]
    if os.geteuid() or subprocess.run([*prefix, "true"], capture_output=True, cwd=t.dir).returncode:
        raise Skip("there are no mount namespaces here")
    return prefix


def inside(d, script):
    return subprocess.run(["nsenter", "-t", str(d.pid), "-m", "--wd", "sh", "-ec", script], check=True, stdout=subprocess.PIPE, text=True).stdout
