# SPDX-License-Identifier: MIT
"""What the shop does: all of it is committed."""

import threading

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import Group, User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from shop.models import Category, Customer, Order, Payment, Product, Review, Stock, Tag

each = pytest.mark.parametrize("n", range(15))


def customer(n):
    return Customer.objects.get(user__username=f"user{n}")


def product(n):
    return Product.objects.get(name=f"product 1.{n}")


def in_thread(work):
    """With a connection of its own."""
    results = []

    def run():
        results.append(work())
        connection.close()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


@each
def test_sign_up(n):
    user = User.objects.create_user(f"new{n}", password="word")
    assert user.pk == 21 and Customer.objects.create(user=user).pk == 21
    assert authenticate(username=f"new{n}", password="word") == user and Customer.objects.count() == 21


@each
def test_log_in(n):
    session = SessionStore()
    session["user"] = n
    session.save()
    assert authenticate(username=f"user{n}", password=f"secret{n}").pk == n + 1
    assert SessionStore(session.session_key)["user"] == n and SessionStore.get_model_class().objects.count() == 1


@each
def test_order(n):
    order = Order.objects.create(customer=customer(n))
    for k in range(n % 5 + 1):
        order.add(product(k), k + 1)
    assert order.pk == 1 and order.total() == sum((101 + k) * (k + 1) for k in range(n % 5 + 1))
    assert [s.pieces for s in Stock.objects.filter(product__category=2).order_by("product")] == [9 - k if k <= n % 5 else 10 for k in range(20)]


@each
def test_out_of_stock(n):
    order = Order.objects.create(customer=customer(n))
    with pytest.raises(IntegrityError):
        order.add(product(n), 11 + n)
    assert not order.lines.exists() and Stock.objects.get(product=product(n)).pieces == 10


@each
def test_pay(n):
    order = Order.objects.create(customer=customer(n))
    order.add(product(n))
    if n == 0:
        with pytest.raises(IntegrityError):
            order.pay()
        assert not Payment.objects.exists() and not Order.objects.get().paid
        return
    order.pay()
    assert customer(n).balance == 1000 * n - 101 - n and Payment.objects.get().cents == 101 + n
