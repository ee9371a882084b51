# SPDX-License-Identifier: MIT
"""Fixtures of an ini file: fixd.use()."""

import pytest

INI = """
    [fixture words]
    doc = some words
    tree = cd "$FIXD_DIR"; mkdir deep; echo first > word; echo lowest > deep/word

    [fixture one]
    service = echo "one at $FIXD_PORT"; exec sleep 1000

    [fixture size]
    command = echo "built $FIXD_PARAM" >> {log}; echo "$FIXD_PARAM"
    params = small, large

    [fixture input]
    file = input

    [fixture place]
    scope = module
    command = printf %s "$FIXD_SCOPE_KEY"
"""


@pytest.fixture
def ini(project):
    """A project with a file of fixtures, where they are not in the root directory."""
    project.write("pytest.ini", "[pytest]\nfixd_config = db/fixd.ini\n")
    project.write("db/input", "abc")
    project.write("db/fixd.ini", INI.format(log=project.file("log")))
    return project


@pytest.mark.parametrize("workers", ["0", "4"])
def test_values_of_every_kind(ini, workers):
    ini.conftest("""
        words, one, input = fixd.use("words"), fixd.use("one"), fixd.use("input")
        small, size = fixd.use("size[small]"), fixd.use("size", params=["small", "large"])
        place, here = fixd.use("place", scope="module"), fixd.use("place", scope="function")
        """)
    ini.write("sub/test_it.py", """
        import pathlib, pytest
        def test_tree(words):
            assert isinstance(words, pathlib.Path) and (words / "deep" / "word").read_text() == "lowest\\n"
        def test_service(one): assert type(one) is str and one.startswith("one at ")
        def test_bytes(input, small):
            assert input == b"abc" and input.readonly and bytes(small) == b"small\\n"
        def test_params(size, request): assert size.tobytes().decode() == request.node.callspec.params["size"] + "\\n"
        class TestPlace:
            def test_place(self, place, here): assert place == here == b"sub/test_it.py"
        """)
    for _ in range(2):
        ini.run("-n", workers).passed(6)
    assert sorted(ini.log()) == ["built large", "built small"]
