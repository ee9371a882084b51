# SPDX-License-Identifier: MIT
"""Made by contrib/protocol of src/wire/messages.table."""

VERSION = 8
VERSION_MIN = 5
MESSAGE_MAX = 8192
FDS_MAX = 64
NAME_MAX = 255
KEY_MAX = 2048
ENV_MAX = 4096
DEPENDS_MAX = 64
ROOT_MAX = 4095
RUN_MAX = 100
TEST_MAX = 500
LINE_MAX = 500
SETTINGS_MAX = 7168
PATTERNS_MAX = 4096
SENTENCE_MAX = 4096
BOARD_SLOTS = 16384

# name: (format of struct, fields, which of them are lengths of strings)
FIELDS = {
    "header": ("<HHIQ", ("type", "n_fds", "size", "id"), ()),
    "hello": ("<II", ("version", "lowest"), ()),
    "welcome": ("<IIII", ("version", "message_max", "board_slots", "pid"), ()),
    "join": ("<IHH", ("flags", "root", "run"), ("root", "run")),
    "joined": ("<II16s", ("members", "orphans", "session"), ()),
    "attach": ("<IIHHHH", ("flags", "timeout_ms", "name", "key", "env", "depends"), ("name", "key", "env")),
    "attached": ("<IHH", ("flags", "n_images", "path"), ()),
    "image": ("<QQQQQQQIIII", ("serial", "address", "size", "root", "digest_low", "digest_high", "board_value", "board_slot", "generation", "kind", "flags"), ()),
    "offer": ("<QII", ("limit", "timeout_ms", "huge"), ()),
    "detach": ("<QQII", ("serial", "pages", "resets", "dirty"), ()),
    "define": ("<HHI", ("name", "settings", "reserved"), ("name", "settings")),
    "release": ("<QII", ("serial", "flags", "timeout_ms"), ()),
    "released": ("<II", ("last", "note"), ()),
    "closing": ("<Q", ("reserved",), ()),
    "adopt": ("<IHH", ("flags", "pattern", "reserved"), ("pattern",)),
    "orphan": ("<II", ("note", "title"), ("title",)),
    "test": ("<H3H", ("test", "reserved", "reserved", "reserved"), ("test",)),
    "changed": ("<QQH3H", ("serial", "pages", "test", "reserved", "reserved", "reserved"), ("test",)),
    "used": ("<QHH2H", ("serial", "line", "test", "reserved", "reserved"), ("line", "test")),
    "query": ("<IHH", ("flags", "pattern", "reserved"), ("pattern",)),
    "relocate": ("<QH3H", ("serial", "moves", "reserved", "reserved", "reserved"), ()),
    "move": ("<QQ", ("address", "to"), ()),
    "report": ("<Q", ("size",), ()),
    "events": ("<QII", ("from", "wait_ms", "reserved"), ()),
    "key": ("<QQ", ("serial", "size"), ()),
    "cleanup": ("<IHHq", ("flags", "patterns", "reserved", "older_than"), ("patterns",)),
    "error": ("<iI", ("error", "sentence"), ("sentence",)),
}

# name: (type, whose fields)
REQUESTS = {
    "hello": (1, "hello"),
    "join": (2, "join"),
    "attach": (16, "attach"),
    "detach": (17, "detach"),
    "define": (18, "define"),
    "release": (19, "release"),
    "closing": (20, "closing"),
    "adopt": (21, "adopt"),
    "test": (22, "test"),
    "changed": (23, "changed"),
    "used": (24, "used"),
    "relocate": (25, "relocate"),
    "status": (32, "query"),
    "list": (33, "query"),
    "log": (34, "query"),
    "events": (35, "events"),
    "key": (36, "query"),
    "cleanup": (48, "cleanup"),
    "reload": (49, "query"),
    "stop": (50, "query"),
    "restart": (51, "query"),
}
