#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What each command prints as JSON is as its schema says, and has nothing that the schema does not know."""

import json
import os
import subprocess
import sys

import harness
from harness import COW, FixdError, once

SCHEMAS = os.path.join(harness.SRC, "src/fixctl/schema")
TYPES = {"string": str, "boolean": bool, "object": dict, "array": list, "null": type(None)}


def load(name):
    with open(os.path.join(SCHEMAS, name)) as f:
        return json.load(f)


def has_type(value, name):
    if name in ("integer", "number"):
        return isinstance(value, int if name == "integer" else (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


class Schema:
    """As much of JSON Schema as the schemas use; a keyword that is not known is a mistake."""

    KNOWN = {"$schema", "$comment", "$defs", "$ref", "title", "description", "type", "properties", "required", "items", "enum", "oneOf", "allOf"}

    def __init__(self, name):
        self.name, self.root = name, load(name)

    def wrong(self, value, schema=None, where="$", keys=()):
        """None, or a sentence. `keys`: what others of an allOf know."""
        schema = self.root if schema is None else schema
        assert set(schema) <= self.KNOWN, (self.name, set(schema) - self.KNOWN)
        if "$ref" in schema:
            return self.follow(value, schema["$ref"], where, keys)
        if "enum" in schema and value not in schema["enum"]:
            return f"{where} is {value!r}, not one of {schema['enum']}"
        types = schema.get("type", [])
        if types and not any(has_type(value, t) for t in ([types] if isinstance(types, str) else types)):
            return f"{where} is {value!r}, not {types}"
        if "oneOf" in schema and sum(not self.wrong(value, s, where) for s in schema["oneOf"]) != 1:
            return f"{where} is {value!r}, which is not exactly one of {schema['oneOf']}"
        if "allOf" in schema:
            known = {k for s in schema["allOf"] for k in self.keys(s)}
            return next(filter(None, (self.wrong(value, s, where, known) for s in schema["allOf"])), None)
        if isinstance(value, list):
            return next(filter(None, (self.wrong(v, schema["items"], f"{where}[{k}]") for k, v in enumerate(value) if "items" in schema)), None)
        if isinstance(value, dict) and "properties" in schema:
            return self.wrong_object(value, schema, where, keys)
        return f"{where} is an object of which nothing is said" if isinstance(value, dict) and "oneOf" not in schema else None

    def wrong_object(self, value, schema, where, keys):
        missing = set(schema.get("required", [])) - set(value)
        unknown = set(value) - set(schema["properties"]) - set(keys)
        if missing or unknown:
            return f"{where} lacks {missing}, and has {unknown}"
        return next(filter(None, (self.wrong(v, schema["properties"][k], f"{where}.{k}") for k, v in value.items() if k in schema["properties"])), None)

    def follow(self, value, ref, where, keys):
        if ref.startswith("#/$defs/"):
            return self.wrong(value, self.root["$defs"][ref[len("#/$defs/"):]], where, keys)
        return Schema(ref).wrong(value, where=where, keys=keys)

    def keys(self, schema):
        return set((load(schema["$ref"]) if "$ref" in schema else schema)["properties"])


INI = """[fixture corpus]
doc = words
params = 1, 2
command = printf words
[fixture index]
depends = corpus[1]
command = printf index
path = index
[fixture broken]
command = echo why >&2; exit 1
[fixture server]
service = echo up; exec sleep 1000
ready = line
clones = 1
[fixture client]
client = yes
"""


def checked(name, values):
    for value in values:
        wrong = Schema(name + ".json").wrong(value)
        assert not wrong, (name, wrong)
    assert values, name
    return values


def lines(out):
    return [json.loads(line) for line in out.splitlines()]


def test_every_command(t):
    d = t.daemon(INI)
    c = d.client().join(t.dir, "run-1")
    json_of = lambda *args, code=0: json.loads(d.ctl(*args, code=code).out)
    checked("warm", lines(d.ctl("warm", "--json", "--timeout", "60s", "*", code=4).out))
    c.set_test("tests/test_a.py::test_b")
    views = [c.attach("index", COW), c.attach("server"), c.begin("client").commit(b"data")]
    views[0].write(0, b"X")
    views[0].reset()
    for args in ("status", "--json"), ("--json", "status", "*"):
        checked("status", [json_of(*args)])
    assert len(checked("ps", [json_of("ps", "--all", "--json")])[0]) > 4
    checked("list", [json_of("list", "--json")])
    for name in "corpus[1]", "index", "broken", "server", "client":
        checked("explain", [json_of("explain", "--json", name)])
    checked("log", [json_of("log", "--json", "broken")])
    checked("get", [json_of("get", "--json", "-o", t.path("out"), "index")])
    checked("graph", [json_of("graph", "--json")])
    checked("doctor", [json_of("doctor", "--json")])
    checked("init", [json_of("init", "--dry-run", "--json", os.path.join(harness.SRC, "tests"))])
    checked("bench", [json_of("bench", "--json", "--runs", "1", "corpus", "broken", code=4)])
    checked("report", [json_of("report", "--format=json"), json_of("--session", t.dir, "report", "--format=json")])
    for view in views:
        view.detach()
    checked("cleanup", [json_of("cleanup", "--json", "--all")])
    events = checked("trace", lines(d.ctl("trace", "--once", "--json").out))
    assert {"attach", "detach", "changed", "build", "ready", "failed", "stale", "torn-down", "run-began"} <= {e["event"] for e in events}
    checked("changes", [json.loads(d.ctl("run", "--changes", "--json", "-f", "index", "--", "sh", "-c", "echo >> index", cwd=t.dir).err)])
    checked("control", [json_of(command, "--json") for command in ("reload", "restart", "stop")])
    d.process.wait(harness.LIMIT)


@once
def test_each_command_has_one(t):
    """What can be asked for JSON has a schema, and says so in its help."""
    shared = {"reload": "control", "restart": "control", "stop": "control", "run": "changes"}
    fixctl = lambda *args: subprocess.run([harness.program("fixctl"), *args], capture_output=True, text=True, env=harness.process_environment())
    commands = [line.split()[0] for line in fixctl("--help").stdout.splitlines() if line[:2] == "  " and line[2] != "-"]
    with_json = [c for c in commands if "json" in fixctl("help", c).stdout]
    assert set(commands) - set(with_json) <= {"with", "fork"}, commands
    for command in with_json:
        assert os.path.exists(os.path.join(SCHEMAS, shared.get(command, command) + ".json")), command


@once
def test_what_is_wrong(t):
    """The judge itself."""
    control = Schema("control.json")
    assert control.wrong({"done": "stop", "message": ""}) is None
    for bad in {"done": "stop"}, {"done": "dance", "message": ""}, {"done": "stop", "message": 1}, {"done": "stop", "message": "", "more": 1}, []:
        assert control.wrong(bad), bad
    assert Schema("ps.json").wrong([{}]) and Schema("explain.json").wrong({"name": "x", "definition": {}, "instances": []})


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
