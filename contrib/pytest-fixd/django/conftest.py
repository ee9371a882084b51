# SPDX-License-Identifier: MIT
import os
import random

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

import django

django.setup()

import fixd
import pytest
from django.db import connections

pg = fixd.use("pg", scope="function")


def pytest_addoption(parser):
    parser.addoption("--order", type=int, help="seed of a random order of the tests")


def pytest_collection_modifyitems(config, items):
    if config.getoption("order") is not None:
        random.Random(config.getoption("order")).shuffle(items)


@pytest.fixture(autouse=True)
def db(pg, request):
    """The test's own server, which nobody has visited before."""
    from shop.models import Visit

    connection = connections["default"]
    connection.settings_dict["HOST"] = pg
    assert not Visit.objects.exists()
    assert Visit.objects.create(who=request.node.nodeid).pk == 1
    yield connection
    connections.close_all()
