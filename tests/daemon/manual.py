# SPDX-License-Identifier: MIT
"""The examples of the manuals: every block of the pages, the READMEs and the comments that are documentation, and which test runs it.

A block is named by its page, its heading and its number below that: "fixd-recipes.7 C 1". A test says which ones it runs, by @runs(...),
and gets their text from here; tests/daemon/examples.py looks that there is no other one."""

import fnmatch
import functools
import glob
import os
import re

SRC = os.environ.get("FIXD_SRC", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
PAGES = "man/*.[1-8]", "README", "contrib/HACKING", "contrib/*/README", "include/*.h", "contrib/go/*.go", "contrib/rust/src/*.rs"
ESCAPES = {"\\e": "\\", "\\-": "-", "\\(dq": '"', "\\(aq": "'", "\\&": ""}


class Block:
    def __init__(self, page, heading, number, before, text, kind="Bd"):
        self.page, self.heading, self.kind, self.text = page, heading, kind, text
        self.name = f"{page} {heading} {number}"
        self.before = before  # the lines that stand above it


def plain(text):
    return re.sub(r"\\(?:e|-|&|\(dq|\(aq)", lambda m: ESCAPES[m[0]], text)


def of_manual(page, lines):
    """.Bd and .Dl of mdoc(7): (heading, lines above, text, macro)."""
    heading, block, above = "", None, []
    for line in lines:
        macro = line.split(" ")[0].rstrip("\n")
        assert macro not in (".EX", ".nf"), f"{page}: {macro} is not of mdoc(7)"
        if block is not None and macro != ".Ed":
            block.append(line)
            continue
        if macro in (".Sh", ".Ss"):
            heading = line[4:].strip()
        elif macro == ".Bd":
            block = []
            continue
        elif macro == ".Ed":
            yield heading, "".join(above), plain("".join(block)), "Bd"
            block, above = None, []
        elif macro in (".Dl", ".D1"):
            yield heading, "".join(above), plain(line[4:].strip()) + "\n", "Dl"
        above = [*above[-4:], line]


def of_text(page, lines):
    """What is indented by four columns below a heading that has two empty lines above it."""
    heading, block, empty = "", [], 2
    for line in [*lines, "\n", "\n", "end\n"]:
        if line.startswith("    ") or (block and not line.strip()):
            block.append(line[4:] if line.strip() else "\n")
        elif block:
            yield heading, "", "".join(block).rstrip() + "\n", "indented"
            block = []
        if line.strip() and not line.startswith(" ") and empty >= 2:
            heading = line.strip().rstrip(":").split(":")[0]
        empty = empty + 1 if not line.strip() else 0


def of_comments(page, lines):
    """What is indented by a tab in a comment of C or Go, or between fences in one of Rust; and Go's examples."""
    block, fence = [], None
    for line in [*lines, ""]:
        indented, rust = re.match(r" \*\t(.*)| \*$" if page.endswith(".h") else r"//\t(.*)|//$", line), re.match(r"//[!/] ?(.*)", line)
        example = re.match(r"func (Example\w*)\(", line)
        if example:
            yield example[1], "", line, "function"
        if page.endswith(".rs") and rust and rust[1].startswith("```"):
            if fence is not None:
                yield "comment", fence, "\n".join(block) + "\n", "fence"
                block, fence = [], None
            else:
                fence = rust[1]
        elif fence is not None:
            block.append(re.sub(r"^# ", "", rust[1]))
        elif not page.endswith(".rs") and indented and (block or indented[1]):
            block.append(indented[1] or "")
        elif block:
            yield "comment", "", "\n".join(block).rstrip() + "\n", "indented"
            block = []


@functools.cache
def blocks():
    found = {}
    for path in sorted(path for pattern in PAGES for path in glob.glob(os.path.join(SRC, pattern))):
        page = os.path.relpath(path, SRC)
        read = of_manual if page.startswith("man/") else of_comments if page.endswith((".h", ".go", ".rs")) else of_text
        page = page.removeprefix("man/").removeprefix("contrib/")
        count = {}
        with open(path) as f:
            for heading, *what in read(page, f.readlines()):
                count[heading] = count.get(heading, 0) + 1
                block = Block(page, heading, count[heading], *what)
                found[block.name] = block
    return found


def matching(pattern):
    names = [name for name in blocks() if fnmatch.fnmatchcase(name, pattern)]
    assert names, f"no example is called {pattern}"
    return names


TAKEN = set()


def take(pattern):
    """The blocks of that name, or pattern."""
    names = matching(pattern)
    TAKEN.update(names)
    return [blocks()[name] for name in names]


def text(name):
    (block,) = take(name)
    return block.text


def runs(*patterns):
    """Of a test: these are the examples that it runs."""
    def mark(test):
        test.examples = patterns
        return test
    return mark


def check(test):
    """A test that has come to its end has taken what it says."""
    left = {name for pattern in getattr(test, "examples", ()) for name in matching(pattern)} - TAKEN
    assert not left, f"it did not run {sorted(left)}"
