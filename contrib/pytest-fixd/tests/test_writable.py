# SPDX-License-Identifier: MIT
"""Values that tests may write to, each as if it were the only one: what users of read-only shared arrays complain of."""

import importlib.util

import pytest

FRAME = """
    import numpy, pandas
    @fixd.fixture(scope="session")
    def frame():
        n = numpy.arange(100)
        return pandas.DataFrame({"a": n[::-1] * 1.5, "b": numpy.where(n % 7, n, numpy.nan), "c": n % 5, "d": pandas.date_range("2020", periods=100),
                                 "e": pandas.Categorical(["x", "y"] * 50), "f": [f"word {i}" for i in n]})
    """
# Each in a test of its own; none of them raises, and the next test sees nothing of it.
CALLS = '''
df["new"] = 1
df["a"] = 0
df.a = 7.0
df.loc[3, "a"] = -1
df.loc[df.c > 2, "b"] = 0
df.iloc[5, 0] = 9
df.iloc[:, 2] = 1
df.at[7, "b"] = 3
df.iat[7, 1] = 3
df["a"].values[4] = 5
df["a"] += 1
df["a"].fillna(0, inplace=True)
df.fillna({"b": 0}, inplace=True)
df.sort_values("a", inplace=True)
df.sort_index(ascending=False, inplace=True)
df.drop(columns=["b"], inplace=True)
df.drop(index=[1, 2], inplace=True)
df.dropna(inplace=True)
df.rename(columns={"a": "z"}, inplace=True)
df.rename_axis("rows", inplace=True)
df.reset_index(inplace=True)
df.set_index("d", inplace=True)
df.replace(3, 33, inplace=True)
df.insert(0, "first", 1)
df.pop("f")
del df["e"]
df.columns = list("uvwxyz")
df.index = df.index + 1000
df.query("c > 1", inplace=True)
df.eval("g = a + b", inplace=True)
df["a"].clip(upper=50, inplace=True)
df.drop_duplicates("c", inplace=True)
df.update(pandas.DataFrame({"a": [1000.0]}))
df["a"].mask(df.a > 3, 0, inplace=True)
df["b"].where(df.c > 2, 0, inplace=True)
df["e"] = df["e"].cat.add_categories("q")
df["d"].values[0] = 0
df.attrs["by"] = "me"
'''.strip().splitlines()


def test_calls_of_pandas_in_place(project):
    pytest.importorskip("pandas")
    project.conftest(FRAME)
    project.write("test_it.py", f"""
        import pandas, pytest, warnings
        from pandas.testing import assert_frame_equal
        from conftest import frame as made

        CALLS = {CALLS!r}
        fresh = []

        def test_first(frame):
            fresh.append(frame.copy(deep=True))

        @pytest.mark.parametrize("call", CALLS)
        def test_call(frame, call):
            assert_frame_equal(frame, fresh[0])
            assert frame.attrs == {{}} and list(frame.columns) == list("abcdef") and frame.index.name is None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(call, {{"df": frame, "pandas": pandas}})

        def test_last(frame):
            assert_frame_equal(frame, fresh[0])
        """)
    for _ in (1, 2):
        project.run().passed(len(CALLS) + 2)


def test_complaints_about_read_only_arrays(project):
    """As they were reported: of pandas, dask, scikit-learn, numpy and ray."""
    pytest.importorskip("pandas")
    project.conftest(FRAME + """
    @fixd.fixture(scope="session")
    def array(): return numpy.arange(1000.0)
    @fixd.fixture(scope="session")
    def grid(): return numpy.arange(6000.0).reshape(100, 60)
    """)
    project.write("test_it.py", """
        import numpy, pandas, pytest

        def test_take(frame):               # pandas-dev/pandas#10043
            assert len(frame.take([1, 2, 3])) == 3 and len(frame.iloc[[0, 5]]) == 2 and frame.groupby("c").a.sum().sum() > 0

        def test_unique_and_map(frame):     # pandas-dev/pandas#11502
            assert frame.c.map({0: 1}).notna().sum() == 20 and frame.c.isin([1]).sum() == 20 and len(frame.a.unique()) == 100
            assert pandas.cut(frame.a, 3).notna().all() and frame.c.value_counts().sum() == 100

        def test_assignment(array):         # dask/dask#1978, ray-project/ray#37573
            array[array > 500] = 0
            array += 1

        def test_it_is_undone(array):
            assert array.sum() == 499500

        def test_flags(array):              # numpy/numpy#9305
            assert array.flags.writeable
            array.setflags(write=False)
            array.setflags(write=True)
            numpy.random.shuffle(array)
            array.sort()

        def test_frame_of_it(frame):        # ray-project/ray#5592
            frame.sort_index(inplace=True)
            frame["a"] = frame["a"].astype("float32")
            frame.loc[0, "b"] = 1

        def test_trees(grid):               # scikit-learn/scikit-learn#21654, #25172
            ensemble = pytest.importorskip("sklearn.ensemble")
            wanted = (grid[:, 0] > 3000).astype(int)
            for model in (ensemble.RandomForestClassifier(5), ensemble.HistGradientBoostingClassifier(max_iter=3), ensemble.IsolationForest(n_estimators=5)):
                model.fit(grid, wanted)

        def test_scaled_in_place(grid):
            preprocessing = pytest.importorskip("sklearn.preprocessing")
            preprocessing.StandardScaler(copy=False).fit_transform(grid)

        def test_grid_is_pristine(grid):
            assert (grid == numpy.arange(6000.0).reshape(100, 60)).all()
        """)
    project.run("-n", "2").passed(9 if importlib.util.find_spec("sklearn") else 7)


def test_objects_are_as_they_were_built(project):
    project.conftest("""
        class Model:
            def __init__(self): self.steps, self.names = 0, ["a"]
        @fixd.fixture(scope="session")
        def model(): return Model()
        @fixd.fixture(scope="session")
        def table(): return {"rows": []}
        @fixd.fixture(scope="session", isolate=False)
        def seen(): return []
        @fixd.fixture(scope="session")
        def kept(): return {"n": 0}
        @pytest.fixture(scope="session")
        def service(kept): return [kept]
        """)
    project.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(3))
        def test(model, table, seen, kept, service, n):
            assert model.steps == 0 and model.names == ["a"] and table == {"rows": []} and seen == list(range(n))
            assert service[0] is kept and kept["n"] == n     # who else has it would be left behind
            model.steps, model.other = 1, 2
            model.names.append("b")
            table["rows"].append(n)
            seen.append(n)
            kept["n"] += 1
        def test_same_in_one_test(request, table):
            assert request.getfixturevalue("table") is table
        """)
    for _ in (1, 2):
        project.run().passed(4)
    leaks = project.run("--fixd-leaks").output
    assert leaks.count("table' outside of its arrays") == 3 and "table' outside of its arrays:" not in leaks, leaks
    assert leaks.count("kept' outside of its arrays: later tests of this process see that") == 3 and "seen'" not in leaks, leaks


def test_what_is_asked_for_by_getfixturevalue(project):
    """It is as it was built for whoever asks like that next, or by name."""
    project.conftest("""
        @fixd.fixture(scope="session")
        def table(): return {"rows": []}
        @pytest.fixture
        def late(request): return request.getfixturevalue("table")
        """)
    project.write("test_it.py", """
        import pytest
        def by_call(request): return request.getfixturevalue("table")
        def check(table):
            assert table == {"rows": []}
            table["rows"].append(1)
        def test_first(request): check(by_call(request))
        def test_again(request): check(by_call(request))
        def test_by_name(table): check(table)
        def test_after_name(request): check(by_call(request))
        def test_by_another(late): check(late)
        def test_without(): pass
        def test_by_another_again(late): check(late)
        """)
    for _ in (1, 2):
        project.run().passed(7)


def test_values_that_say_it_differently(project):
    """A value that nobody has changed may be pickled in another way than when it was loaded first; some never say the same."""
    pytest.importorskip("sklearn")
    project.conftest("""
        import numpy
        @fixd.fixture(scope="session")
        def forest():
            from sklearn.ensemble import RandomForestClassifier
            x = numpy.random.default_rng(0).normal(size=(300, 5))
            return RandomForestClassifier(3, random_state=0).fit(x, x[:, 0] > 0)
        @fixd.fixture(scope="session")
        def near():
            from scipy.spatial import cKDTree
            return cKDTree(numpy.random.default_rng(0).normal(size=(300, 3)))
        """)
    project.write("test_it.py", """
        import numpy, pytest
        @pytest.mark.parametrize("n", range(4))
        def test_looks(forest, near, n):
            forest.predict(numpy.ones((2, 5)))
            near.query([0, 0, 0])
        def test_changes(forest): forest.n_estimators = 4
        def test_is_undone(forest): assert forest.n_estimators == 3
        """)
    for _ in range(3):
        said = project.run("--fixd-leaks").passed(6).output
        assert said.count("changed the shared fixture") == 1 and "test_changes changed the" in said, said


def test_arrays_are_as_fresh_ones(project):
    """Views are views of what they were, and all are aligned."""
    pytest.importorskip("numpy")
    project.conftest("""
        import numpy
        @fixd.fixture(scope="session")
        def arrays():
            whole = numpy.arange(3000.0).reshape(60, 50)
            return {"column": whole[:, 3], "whole": whole, "back": whole[::-1, ::2], "other": numpy.asfortranarray(numpy.ones((7, 5), "f4")),
                    "of_another": numpy.arange(10)[2:5], "flat": whole.reshape(-1)}
        """)
    project.write("test_it.py", """
        import numpy
        def test_views(arrays):
            whole = arrays["whole"]
            for name in ("column", "back", "flat"):
                assert numpy.shares_memory(arrays[name], whole) and arrays[name].base is not None
            assert arrays["column"].tolist() == list(range(3, 3000, 50)) and arrays["back"][0, 1] == 2952
            whole[5, 3] = -1
            assert arrays["column"][5] == -1 and arrays["flat"][253] == -1
            arrays["back"][0, 0] = -2
            assert whole[59, 0] == -2
        def test_pristine(arrays):
            assert (arrays["whole"] == numpy.arange(3000.0).reshape(60, 50)).all() and arrays["back"][0, 0] == 2950
        def test_flags(arrays):
            for a in arrays.values():
                assert a.flags.writeable and a.flags.aligned
            assert arrays["whole"].ctypes.data % 64 == 0 and arrays["other"].ctypes.data % 64 == 0 and arrays["of_another"].ctypes.data % 64 == 0
            assert arrays["whole"].flags.c_contiguous and arrays["other"].flags.f_contiguous and not arrays["column"].flags.contiguous
            assert arrays["of_another"].tolist() == [2, 3, 4]
        """)
    for _ in (1, 2):
        project.run().passed(3)


def test_changes_by_tests_that_did_not_ask(project):
    """Undone before the next one that asks."""
    pytest.importorskip("numpy")
    project.conftest("""
        import numpy
        @fixd.fixture(scope="session")
        def array(): return numpy.zeros(1000)
        @fixd.fixture(scope="session", isolate=False)
        def total(): return numpy.zeros(2)
        """)
    project.write("test_it.py", """
        kept = []
        def test_keeps(array, total):
            kept.append(array)
            total += 1
        def test_does_not_ask():
            kept[0][3] = 1
        def test_asks(array, total):
            assert array.sum() == 0 and total.tolist() == [1, 1]
            array[4] = 1
        def test_asks_later(request):
            assert request.getfixturevalue("array").sum() == 0
        """)
    project.run().passed(4)


def test_what_is_built_of_what_a_test_has_changed(project):
    """It is made of what others have."""
    project.conftest("""
        @fixd.fixture(scope="session")
        def base(): return {"a": 1}
        @fixd.fixture(scope="session")
        def of_base(base): return sorted(base)
        @fixd.fixture(scope="session")
        def asks(request): return sorted(request.getfixturevalue("base"))
        class Model:
            def __init__(self, weights): self.weights = weights
        @fixd.fixture(scope="session", parse=Model)
        def model(): return [1.0]
        @fixd.fixture(scope="session")
        def predictions(model): return sum(model.weights)
        @fixd.fixture
        def items(): return [1]
        @fixd.fixture
        def count(items): return len(items)
        """)
    project.write("test_first.py", """
        def test_mine(base, request):
            base["mine"] = 1
            request.getfixturevalue("of_base")
            request.getfixturevalue("asks")
            assert base["mine"]
        def test_model(model): model.weights.append(100.0)
        def test_of_model(predictions): pass
        def test_items(items, request):
            items.append(2)
            request.getfixturevalue("count")
        """)
    project.write("test_later.py", """
        def test_base(of_base, asks): assert of_base == asks == ["a"]
        def test_model(predictions): assert predictions == 1.0
        def test_count(count): assert count == 1
        """)
    project.run("test_first.py").passed(4)
    project.run("test_later.py").passed(3)


def test_a_directory_that_each_test_may_change(project):
    project.conftest("""
        @fixd.fixture
        def tree(tmp_path_factory):
            log("tree")
            path = tmp_path_factory.mktemp("tree")
            (path / "f").write_text("1")
            return path
        @fixd.fixture(writable=False)
        def shared(tmp_path_factory):
            log("shared")
            return tmp_path_factory.mktemp("shared")
        """)
    project.write("test_it.py", """
        def test_1(tree, shared): (tree / "f").write_text("2"); (tree / "new").touch()
        def test_2(tree, shared): assert (tree / "f").read_text() == "1" and not (tree / "new").exists()
        """)
    for _ in range(2):
        output = project.run().passed(2).output
        assert "fixture 'tree' (conftest.py:8) is built by every test: each may change the directory that it makes; writable=False shares it" in output, output
    assert project.count("tree") == 4 and project.count("shared") == 1
