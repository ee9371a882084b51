# SPDX-License-Identifier: MIT
"""--fixd-blame: the line that changed a shared fixture."""

import json
import os
import re

import pytest

from conftest import wait_for

FIXTURES = """
    import numpy

    class Slots:
        __slots__ = "weights", "names"
        def __init__(self): self.weights, self.names = numpy.ones(700), ["a"]

    class Model:
        def __init__(self): self.weights, self.steps, self.names = numpy.ones((30, 40)), 0, ["a", "b"]

    @fixd.fixture(scope="module", writable=True)
    def matrix(): return numpy.arange(5000.0).reshape(100, 50)
    @fixd.fixture(scope="module", writable=True)
    def parts(): return {"counts": numpy.arange(3000), "rows": [numpy.zeros(600), numpy.ones(700, "i2")]}
    @fixd.fixture(scope="module", writable=True)
    def model(): return Model()
    @fixd.fixture(scope="module")
    def table(): return {"rows": [], "options": {"depth": 3, "width": 4}}
    @fixd.fixture(scope="module", writable=True)
    def slots(): return {"it": Slots()}
    """
FRAMES = """
    import pandas
    @fixd.fixture(scope="module", writable=True)
    def frame():
        n = numpy.arange(2000)
        return pandas.DataFrame({"x": n / 2, "y": n / 4, "n": n, "when": pandas.date_range("2020", periods=2000)})
    """

# The line that writes first has its mark, and what of the value it is.
ARRAYS = '''
    import ctypes, io, os, socket, threading
    import numpy

    def fill(a, value):
        a.fill(value)  # through_a_function: [0, 0] was 0.0 and became 2.0

    def test_item(matrix):
        matrix[3, 4] = 0  # item: [3, 4] was 154.0 and became 0.0

    def test_through_a_function(matrix):
        fill(matrix, 2)

    def test_in_place_operator(parts):
        part = parts["rows"][1][10:20]
        part += 5  # in_place_operator: ['rows'][1][10] was 1 and became 6

    def test_out_argument(matrix):
        numpy.sqrt(matrix, out=matrix)  # out_argument: [0, 2] was 2.0 and became 1.41421

    def test_copyto(parts):
        numpy.copyto(parts["rows"][0], 9)  # copyto: ['rows'][0][0] was 0.0 and became 9.0

    def test_sort(parts):
        parts["counts"][::-1].sort()  # sort: ['counts'][0] was 0 and became 2999

    def test_transposed(matrix):
        matrix.T[7][2] = -1  # transposed: [2, 7] was 107.0 and became -1.0

    def test_read(parts):
        ours, theirs = os.pipe()
        os.write(theirs, b"12345678")
        with open(ours, "rb", buffering=0) as f:
            f.readinto(parts["counts"][100:101])  # read: ['counts'][100] was 100 and became
        os.close(theirs)

    def test_read_in_parts(parts):
        with open(__file__, "rb") as f:
            os.preadv(f.fileno(), [bytearray(3), parts["counts"][200:202]], 0)  # read_in_parts: ['counts'][200] was 200 and became

    def test_received(parts):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.send(b"12345678")
            ours.recvmsg_into([parts["counts"][300:301]])  # received: ['counts'][300] was 300 and became

    def test_memmove(parts):
        ctypes.memmove(parts["counts"][50:].ctypes.data, b"x" * 8, 8)  # memmove: ['counts'][50] was 50 and became

    def test_thread(matrix):
        def work():
            matrix[60:] = 0  # thread: [60, 0] was 3000.0 and became 0.0
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def test_of_an_object(model):
        model.weights[1, 2] *= 3  # of_an_object: .weights[1, 2] was 1.0 and became 3.0

    def test_in_slots(slots):
        slots["it"].weights[5] = 2  # in_slots: ['it'].weights[5] was 1.0 and became 2.0

    def test_puts_it_back(matrix, table):
        matrix[0, 0] = 1
        matrix[0, 0] = 0
        table["rows"].append(1)
        table["rows"].pop()

    def test_is_pristine(matrix, parts, model):
        assert (matrix == numpy.arange(5000.0).reshape(100, 50)).all() and (parts["counts"] == numpy.arange(3000)).all()
        assert parts["rows"][1].sum() == 700 and model.weights.sum() == 1200
    '''
OBJECTS = '''
    import pytest

    def append(rows):
        rows.append(1)  # appends: ['rows'][0] is new: 1

    def test_appends(table):
        append(table["rows"])
        assert table["rows"]

    def test_sets_a_key(table):
        table["options"]["depth"] = 4  # sets_a_key: ['options']['depth'] was 3 and became 4

    def test_sets_an_attribute(model):
        for i in range(3):
            if i == 2:
                model.steps = i  # sets_an_attribute: .steps was 0 and became 2

    def test_slot(slots):
        slots["it"].names.append(1)  # slot: ['it'].names[1] is new: 1

    def test_orders(table):
        table["options"]["depth"] = table["options"].pop("depth")  # orders: ['options'] has another order

    def test_locks(model):
        model.weights.setflags(write=False)  # locks: it is equal to what was built, but not the same

    @pytest.fixture
    def rows_of(table):
        return table["rows"]
    def test_by_what_it_is_made_of(rows_of):
        append_to(rows_of)

    def append_to(rows):
        rows.append(1)  # by_what_it_is_made_of: ['rows'][0] is new: 1

    class TestSetUp:
        @pytest.fixture(autouse=True)
        def set_up(self, table): self.rows = table["rows"]
        def test_by_what_it_has(self):
            self.rows.append(2)  # by_what_it_has: ['rows'][0] is new: 2

    @pytest.fixture
    def growing(table):
        table["rows"] += [1]  # by_its_fixture: ['rows'][0] is new: 1
    def test_by_its_fixture(growing):
        pass

    @pytest.fixture
    def shrinking(table):
        yield
        del table["options"]["width"]  # by_the_end: ['options']['width'], which was 4, is gone
    def test_by_the_end(shrinking):
        pass

    class Test:
        @pytest.fixture(autouse=True)
        def take(self, model): self.model = model
        def teardown_method(self):
            self.model.names.append("c")  # by_a_method: .names[2] is new: 'c'
        def test_by_a_method(self): pass

    def test_removes(model):
        del model.names[0]  # removes: .names[0] was 'a' and became 'b'
    '''
COLUMNS = '''
    def test_by_label(frame):
        frame.loc[77, "y"] = -1  # by_label: ['y'][77] was 19.25 and became -1.0

    def test_by_values(frame):
        frame["n"].values[3] = 8  # by_values: ['n'][3] was 3 and became 8

    def test_new_column(frame):
        frame["z"] = 1  # new_column: .columns[4] is new: 'z'

    def test_names_the_index(frame):
        frame.index.name = "rows"  # names_the_index: .index.names[0] was None and became 'rows'

    def test_notes(frame):
        frame.attrs["by"] = "me"  # notes: .attrs['by'] is new: 'me'

    def test_renames(frame):
        frame.rename(columns={"y": "w"}, inplace=True)  # renames: .columns[1] was 'y' and became 'w'
    '''


def marks(source):
    """Of each test: line and what of the value."""
    return {m.group(1): (n, m.group(2)) for n, line in enumerate(source.split("\n"), 1) for m in [re.search(r"  # (\w+): (.*)", line)] if m}


def reports(output):
    """Of each test: (the first line of the project's own, the whole)."""
    found = {}
    for part in re.split(r"(?=test_\w+\.py::(?:Test\w*::)?test_\w+ changed the shared fixture)", output)[1:]:
        name = re.match(r"test_\w+\.py::(?:Test\w*::)?test_(\w+)", part).group(1)
        line = re.search(r"(?:first written at|called from|changed at) \S*/test_it\.py:(\d+) in ", part)
        assert name not in found, output
        found[name] = int(line.group(1)) if line else None, part.split("warnings.warn(")[0]
    return found


@pytest.mark.parametrize("tests, workers", [(ARRAYS, "0"), (OBJECTS, "2"), (COLUMNS, "0")], ids=["arrays", "objects", "columns"])
def test_lines_of_leaks(project, tests, workers):
    pytest.importorskip("numpy")
    if tests is COLUMNS:
        pytest.importorskip("pandas")
    project.conftest(FIXTURES + (FRAMES if tests is COLUMNS else ""))
    project.write("test_it.py", tests)
    done = project.run("--fixd-blame", "-n", workers)
    expected, found = marks(tests), reports(done.output)
    assert done.code == 0 and set(found) == set(expected), done.output
    for name, (line, what) in expected.items():
        assert found[name][0] == line and what in found[name][1], f"{name}, line {line}, {what}: {found[name]}"
    assert "changed" not in project.run("-n", workers).output


@pytest.mark.parametrize("last", ["by_the_end", "by_its_fixture", "by_what_it_is_made_of"])
def test_lines_of_the_last_test(project, last):
    """With which the fixture ends, too."""
    pytest.importorskip("numpy")
    project.conftest(FIXTURES)
    project.write("test_it.py", OBJECTS)
    done = project.run("--fixd-blame", "-k", f"test_{last}").passed(1)
    line, what = marks(OBJECTS)[last]
    assert reports(done.output)[last][0] == line and what in reports(done.output)[last][1], done.output


def test_report_of_culprits(project):
    """fixctl report has who did it, and who had it after that; also of what the library does not see."""
    pytest.importorskip("numpy")
    project.conftest(FIXTURES)
    project.write("test_it.py", """
        def test_changes(matrix): matrix[3, 4] = 0
        def test_other(parts): pass
        def test_appends(table): table["rows"].append(1)
        def test_reads(matrix): pass
        def test_too(table, parts): pass
        """)
    project.run("--fixd-blame").passed(5)
    expected = [("test_it.py::test_changes", "test_it.py:2 in test_changes()", ["test_it.py::test_reads"]),
                ("test_it.py::test_appends", "test_it.py:4 in test_appends()", ["test_it.py::test_too"])]

    def culprits():
        return [(c["test"], os.path.basename(c["writer"]), c["victims"]) for c in json.loads(project.fixctl("report", "--json").stdout)["culprits"]]

    wait_for(lambda: culprits() == expected, f"{expected}, not {culprits()}")


def test_what_parse_has_made(project):
    """It stays as a test leaves it, and that is told."""
    project.conftest("class Model:\n    def __init__(self, data): self.data, self.log = data, []\n"
                     "@fixd.fixture(scope='session', parse=Model)\ndef model(): return {'k': [1]}\n"
                     "@fixd.fixture(scope='session', parse=lambda data: open(os.devnull))\ndef file(): return 1\n")
    project.write("test_it.py", "def test_reads(model, file): assert model.data['k'] == [1] and not model.log\ndef test_changes(model, file):\n    model.data['k'].append(2)\n"
                                "def test_again(model): model.log.append(3)\n")
    for option in ("--fixd-leaks", "--fixd-blame"):
        output = project.run(option).passed(3).output
        assert output.count("changed the shared fixture 'conftest.py::model' outside of its arrays: later tests of this process see that") == 2, output
        assert "test_reads changed" not in output and ("test_it.py:3 in test_changes()" in output) == (option == "--fixd-blame") and "became" not in output, output
    assert "1 error" in project.run("--fixd-strict", "-k", "again").output


def test_who_did_not_ask(project):
    """Whoever asks for it next is not the one who changed it."""
    pytest.importorskip("numpy")
    project.conftest(FIXTURES)
    project.write("test_it.py", """
        kept = []
        def test_keeps(matrix):
            kept.append(matrix)
        def test_does_not_ask():
            kept[0][3, 4] = 0
        def test_asks(matrix):
            assert matrix[3, 4] == 154
        """)
    found = reports(project.run("--fixd-blame").passed(3).output)
    assert list(found) == ["does_not_ask"] and found["does_not_ask"][0] == 6, found
    assert "test_does_not_ask changed" in project.run("--fixd-strict").output
    project.run().passed(3)


def test_several_writers_of_much(project):
    pytest.importorskip("numpy")
    project.conftest(FIXTURES)
    project.write("test_it.py", """
        def test_changes(matrix):
            matrix.ravel()[0:4000:2] += 1
            matrix[-1, -1] = -1
        """)
    output = project.run("--fixd-blame").passed(1).output
    assert "test_it.py:3 in test_changes()" in output and "test_it.py:4 in test_changes()" in output, output


def test_a_second_run_of_a_test(project):
    """What it leaves there is ended; what takes too long is not waited for, nor tried again."""
    project.conftest("""
        @fixd.fixture(scope="module")
        def table(): return {"rows": []}
        @fixd.fixture(scope="module")
        def slow(): return []
        """)
    project.write("test_it.py", """
        import multiprocessing, os, time
        here = os.getpid()
        def test_leaves(table):
            process = multiprocessing.Process(target=time.sleep, args=(0.3 if os.getpid() == here else 654.321,))
            process.start()
            table["rows"].append(1)
            process.join()
        def takes_long(slow):
            slow.append(1)
            if os.getpid() != here:
                time.sleep(60)
        def test_takes_long(slow): takes_long(slow)
        def test_again(slow): takes_long(slow)
        """)
    output = project.run("--fixd-blame").passed(3).output
    assert "changed at" in output and "test_it.py:7 in test_leaves()" in output, output
    # Found at the line that changes it, before the child sleeps.
    assert "test_it.py:10 in takes_long()" in output, output


def test_a_second_run_that_takes_long(project):
    project.conftest("""
        import fixd._rerun
        fixd._rerun.RERUN_S = 1
        @fixd.fixture(scope="module")
        def slow(): return []
        """)
    project.write("test_it.py", """
        import os, time
        here = os.getpid()
        def changes(slow):
            if os.getpid() != here:
                time.sleep(60)
            slow.append(1)
        def test_one(slow): changes(slow)
        def test_two(slow): changes(slow)
        """)
    output = project.run("--fixd-blame").passed(2).output
    assert output.count("takes longer than 1 s") == 1 and output.count("changed the shared fixture") == 2, output
