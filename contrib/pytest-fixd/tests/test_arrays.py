# SPDX-License-Identifier: MIT
"""Arrays of every kind lie in the image: nothing of their elements is in the pickle, nobody can write to them."""

import os
import pickle
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
numpy = pytest.importorskip("numpy")

from fixd import _values  # noqa: E402


def through_an_image(value):
    """(the value as another process gets it, bytes that it has of its own)."""
    buffers = []
    kind, main = _values._dump_pickle(value, buffers)
    return pickle.loads(main, buffers=[bytes(b.raw()) for b in buffers]), len(main)


class Described(numpy.ndarray):
    """As numpy's manual has it, with a state of its own."""

    def __new__(cls, array, info):
        made = numpy.asarray(array).view(cls)
        made.info = info
        return made

    def __array_finalize__(self, made_of):
        self.info = getattr(made_of, "info", None)

    def __reduce__(self):
        make, arguments, state = super().__reduce__()
        return make, arguments, (*state, self.info)

    def __setstate__(self, state):
        self.info = state[-1]
        super().__setstate__(state[:-1])


class Inside(Described):
    """Its state has numpy's as a part, as astropy's quantities have it."""

    def __reduce__(self):
        make, arguments, state = numpy.ndarray.__reduce__(self)
        return make, arguments, (state, {"info": self.info})

    def __setstate__(self, state):
        numpy.ndarray.__setstate__(self, state[0])
        self.__dict__.update(state[1])


class Before(Described):
    """And this one before it, as unyt's arrays have it."""

    def __reduce__(self):
        make, arguments, state = numpy.ndarray.__reduce__(self)
        return make, arguments, ((self.info, {}), *state)

    def __setstate__(self, state):
        self.info = state[0][0]
        numpy.ndarray.__setstate__(self, state[1:])


class Undescribed(numpy.ndarray):
    pass


class Given(Described):
    """As many do: pickle alone would lose its attribute."""

    __reduce__, __setstate__ = numpy.ndarray.__reduce__, numpy.ndarray.__setstate__


A = numpy.arange(60000.0)
B = A.reshape(200, 300)
ARRAYS = {
    "plain": A, "fortran": numpy.asfortranarray(B), "steps": A[::2], "backwards": B[::-1, ::-3], "transposed": A.reshape(30, 40, 50).transpose(0, 2, 1),
    "dates": A.astype("M8[s]"), "times": A.astype("m8[ms]").reshape(200, 300)[:, ::2], "records": numpy.rec.fromarrays([A, A], names="x,y"),
    "structures": numpy.zeros(1000, dtype=[("x", "f8"), ("y", "i4", (3,)), ("t", "M8[D]")]), "matrix": B.view(numpy.matrix),
    "masked": numpy.ma.masked_array(A, mask=A % 2 == 0, fill_value=7), "unmasked": numpy.ma.masked_array(A), "described": Described(A, "hello"),
    "inside": Inside(B[:, ::2], "hello"), "before": Before(A, "hello"),
    "undescribed": A.view(Undescribed), "repeated": numpy.broadcast_to(A[:1000], (500, 1000)), "one": numpy.broadcast_to(numpy.float64(3), (1000, 1000)),
    "text": numpy.array(["abc", "de"] * 1000), "bytes": numpy.array([b"abc"] * 1000), "bits": A > 3, "big": A.astype(">f8"), "scalar": numpy.array(3.5),
    "void": numpy.zeros(100, dtype="V7"), "field": numpy.rec.fromarrays([A, A], names="x,y").x,
    "bigscalar": numpy.array(4, dtype=">i4"), "word": numpy.array(["ab", "c"])[1, ...], "maskedscalar": numpy.ma.array(4, dtype=">i4"),
    "structure": numpy.zeros((), dtype=[("x", ">f8"), ("y", "S3")]),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_every_kind(kind):
    was = ARRAYS[kind]
    now, own = through_an_image({"value": was})
    now = now["value"]
    assert type(now) is type(was) and now.dtype == was.dtype and now.shape == was.shape
    assert numpy.asarray(now).tobytes() == numpy.asarray(was).tobytes() and not numpy.asarray(now).flags.writeable
    assert own < 1000
    if kind in ("described", "inside", "before"):
        assert now.info == "hello"
    if kind == "masked":
        assert (now.mask == was.mask).all() and now.fill_value == 7 and now.sum() == was.sum() and not now.mask.flags.writeable


def given(array):
    made = Given(array, ["hello"])
    made.itself = made
    return made


def masked(array):
    made = numpy.ma.masked_array(array)
    made.info = ["hello"]
    return made


@pytest.mark.parametrize("was", [given(A), given(A[:0]), given(numpy.array([1, None])), given(B[::-1, ::3]), masked(A)],
                         ids=["elements", "none", "objects", "view", "masked"])
def test_what_an_array_was_given(was):
    now, own = through_an_image(was)
    assert type(now) is type(was) and now.shape == was.shape and now.info == ["hello"] and own < 1500
    assert getattr(now, "itself", now) is now and now.tolist() == was.tolist()


def test_a_mapped_file(tmp_path):
    now, own = through_an_image(numpy.memmap(tmp_path / "a", "i4", "w+", shape=(1000,)))
    assert now.filename == tmp_path / "a" and now.sum() == 0 and own < 1000


def test_what_is_repeated_is_there_once():
    buffers = []
    _values._dump_pickle(numpy.broadcast_to(numpy.float64(3), (10**5, 10**5)), buffers)
    assert sum(b.raw().nbytes for b in buffers) == 8


@pytest.mark.parametrize("value", [numpy.zeros((0, 3)), numpy.array([1, "a", None], dtype=object)], ids=["empty", "objects"])
def test_what_is_not_shared(value):
    now, _ = through_an_image(value)
    assert now.shape == value.shape and now.tolist() == value.tolist()


def test_frames():
    pandas = pytest.importorskip("pandas")
    n = 5000
    frame = pandas.DataFrame({
        "d": pandas.date_range("2020", periods=n), "z": pandas.date_range("2020", periods=n, tz="UTC"), "x": numpy.arange(float(n)), "s": ["a", "b"] * (n // 2),
        "c": pandas.Categorical(["u", "v"] * (n // 2)), "t": pandas.to_timedelta(numpy.arange(n), unit="s"), "i": pandas.array([1, None] * (n // 2), dtype="Int64"),
        "p": pandas.period_range("2020", periods=n, freq="D"), "e": pandas.arrays.SparseArray(numpy.zeros(n))}).set_index("d", drop=False)
    now, own = through_an_image(frame)
    pandas.testing.assert_frame_equal(frame, now)
    assert not any(numpy.asarray(now[c]).flags.writeable for c in ("d", "x", "t"))
    assert own < 4 * n, "only the objects of column s"


def together():
    a, m, r = numpy.arange(100.0), numpy.ma.masked_array(numpy.arange(5.0), mask=[0, 1, 0, 0, 0]), numpy.rec.fromarrays([numpy.arange(5.0), numpy.arange(5)], names="x,y")
    o, s = numpy.array([1, "a", None], dtype=object), numpy.arange(20)
    return {
        "halves": (a[:50], a[25:], lambda x, y: x.__setitem__(30, -7), lambda y: y[5] == -7),
        "masked": (m, m.data, lambda x, y: y.__setitem__(0, 9), lambda y: y[0] == 9),
        "record": (r, r.x, lambda x, y: y.__setitem__(0, 9), lambda y: y[0] == 9),
        "objects": (o, o[1:], lambda x, y: x.__setitem__(1, 5), lambda y: y[0] == 5),
        "backwards": (s, s[::-2], lambda x, y: x.__setitem__(19, -1), lambda y: y[0] == -1),
        "every other": (s[::2], s[1:9], lambda x, y: x.__setitem__(1, -1), lambda y: y[1] == -1),
        "the same": (s, s[:], lambda x, y: x.__setitem__(0, -1), lambda y: y[0] == -1),
    }


@pytest.mark.parametrize("kind", together())
def test_arrays_that_lie_in_the_same_memory(kind):
    """Who writes to one of them sees it in the other, and the memory is there once."""
    one, other, write, seen = together()[kind]
    pair, before = (one.copy(), other.copy()), (one, other)
    kind_, main, buffers = _values.dump((one, other), "auto")
    now = pickle.loads(main, buffers=[bytearray(b) for b in buffers])
    for was, is_ in zip(pair, now):
        assert type(is_) is type(was) and is_.tolist() == was.tolist()
    write(*now)
    assert seen(now[1]) and before[1].tolist() == pair[1].tolist()
    assert sum(b.nbytes for b in buffers) <= max(one.nbytes, other.nbytes, 800)
    assert _values.dump(pickle.loads(main, buffers=[bytearray(b) for b in buffers]), "auto")[1] == main


def test_a_window_over_itself():
    value = numpy.lib.stride_tricks.as_strided(numpy.arange(10.0), (8, 3), (8, 8))
    _, main, buffers = _values.dump(value, "auto")
    now = pickle.loads(main, buffers=[bytearray(b) for b in buffers])
    now[0, 1] = 5
    assert now[1, 0] == 5 and sum(b.nbytes for b in buffers) == 80


def test_columns_leave_what_is_between_them():
    matrix = numpy.zeros((1000, 100))
    _, _, buffers = _values.dump([matrix[:, 0], matrix[:, 99]], "auto")
    assert sum(b.nbytes for b in buffers) == 2 * 8000
