# SPDX-License-Identifier: MIT
"""The examples of the manuals: fixd accepts all of them."""

import glob
import os
import re
import shutil
import subprocess
import sys

import harness
from harness import LIMIT, once


def examples(page):
    """The literal blocks of a page that are sections of fixd.ini, each with the heading above it."""
    found, heading, block = {}, None, None
    with open(os.path.join(harness.SRC, "man", page)) as f:
        for line in f:
            if line.startswith((".Ss ", ".Sh ")):
                heading = line[4:].strip()
            elif line.startswith(".Bd -literal"):
                block = []
            elif line.startswith(".Ed"):
                if block and block[0].startswith(("[fixd]", "[policy]", "[fixture ")):
                    found[heading] = found.get(heading, "") + "".join(block)
                block = None
            elif block is not None:
                block.append(line.replace("\\e", "\\").replace("\\-", "-"))
    return found


@once
def test_all_are_accepted(t):
    pages = [os.path.basename(path) for path in glob.glob(os.path.join(harness.SRC, "man", "*.[1-8]"))]
    all_of_them = {(page, heading): ini for page in pages for heading, ini in examples(page).items()}
    assert ("fixd.ini.5", "EXAMPLES") in all_of_them
    for where, ini in all_of_them.items():
        # What they name has to be there.
        for kind, path in re.findall(r"^(directory|plugin) = (.*)$", ini, flags=re.MULTILINE):
            file = t.write(path + "/file" if kind == "directory" else path, "")
            if kind == "plugin":
                shutil.copy(os.path.join(harness.BUILD, ".libs", "libfixd.so.0"), file)
        done = subprocess.run([harness.program("fixd"), "--check", "--config", t.write("fixd.ini", ini)], capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, f"{where}: {done.stderr}"


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
