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


@each
def test_refund(n):
    who = customer(n + 1)
    order = Order.objects.create(customer=who)
    order.add(product(n), 2)
    order.pay()
    assert order.delete() == (3, {"shop.Payment": 1, "shop.Line": 1, "shop.Order": 1})
    assert Customer.objects.aggregate(sum=models.Sum("balance"))["sum"] == 190000 - 2 * (101 + n)


@each
def test_review(n):
    review = Review.objects.create(product=product(n), stars=n % 5 + 1)
    review.tags.set(Tag.objects.filter(name__in=("good", "late")))
    assert product(n).reviews.aggregate(mean=models.Avg("stars"))["mean"] == n % 5 + 1
    assert [t.name for t in review.tags.order_by("name")] == ["good", "late"] and review.tags.through.objects.count() == 2


@each
def test_new_category(n):
    category = Category.objects.create(name=f"category {5 + n}")
    Product.objects.bulk_create(Product(category=category, name=f"new {k}", cents=k) for k in range(n))
    assert category.pk == 6 and Product.objects.count() == 100 + n
    with pytest.raises(IntegrityError):
        Category.objects.create(name=f"category {5 + n}")


@each
def test_protected(n):
    category = Category.objects.order_by("?")[0]
    with pytest.raises(models.ProtectedError):
        category.delete()
    Product.objects.filter(category=category).delete()
    category.delete()
    assert (Category.objects.count(), Product.objects.count(), Stock.objects.count()) == (4, 80, 80)


@each
def test_raise_prices(n):
    assert Product.objects.filter(cents__lt=200).update(cents=models.F("cents") + n) == 40
    assert Product.objects.aggregate(sum=models.Sum("cents"))["sum"] == 21050 + 40 * n


@each
def test_rolled_back(n):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Product.objects.all().delete()
        n / 0
    assert Product.objects.count() == 100


@each
def test_savepoints(n):
    with transaction.atomic():
        Tag.objects.create(name=f"outer{n}")
        with pytest.raises(IntegrityError), transaction.atomic():
            Tag.objects.create(name="good")
    assert sorted(Tag.objects.values_list("name", flat=True)) == ["bad", "good", "late", f"outer{n}"]


@each
def test_on_commit(n):
    said = []
    with transaction.atomic():
        for k in range(n):
            transaction.on_commit(lambda k=k: said.append((k, Tag.objects.count())))
        Tag.objects.create(name=f"late{n}")
        assert said == []
    assert said == [(k, 4) for k in range(n)]


@each
def test_seen_by_others(n):
    with transaction.atomic():
        Tag.objects.create(name=f"mine{n}")
        assert in_thread(Tag.objects.count) == 3
    assert in_thread(Tag.objects.count) == 4


@each
def test_locked_for_others(n):
    from django.db.utils import OperationalError

    def take():
        try:
            with transaction.atomic():
                return Stock.objects.select_for_update(nowait=True).get(product=product(n)).pieces
        except OperationalError:
            return "locked"
    with transaction.atomic():
        Stock.objects.select_for_update().get(product=product(n))
        assert in_thread(take) == "locked"
    assert in_thread(take) == 10


@each
def test_groups(n):
    group = Group.objects.create(name=f"staff {n}")
    group.user_set.set(User.objects.filter(pk__lte=n))
    assert group.pk == 1 and User.objects.filter(groups=group).count() == n


@each
def test_empty_the_shop(n):
    call_command("flush", interactive=False, verbosity=0)
    assert not Product.objects.exists() and not User.objects.exists()
    assert Category.objects.create(name=f"first {n}").pk == 1


@each
def test_truncate(n):
    with connection.cursor() as cursor:
        cursor.execute("truncate shop_product, shop_customer restart identity cascade")
    assert not Stock.objects.exists() and User.objects.count() == 20 and Product.objects.create(category_id=1, name="p", cents=n).pk == 1


@each
def test_raw_sql(n):
    with connection.cursor() as cursor:
        cursor.execute("create table extra as select * from shop_product where cents < %s", [200])
        cursor.execute("alter table shop_tag add column weight int not null default %s", [n])
        cursor.execute("select (select count(*) from extra), (select sum(weight) from shop_tag)")
        assert cursor.fetchone() == (40, 3 * n)


@each
def test_many_orders(n):
    orders = Order.objects.bulk_create(Order(customer=c) for c in Customer.objects.all())
    Order.objects.filter(customer__balance__gt=1000 * n).update(paid=True)
    assert len(orders) == 20 and Order.objects.filter(paid=True).count() == 19 - n


@each
def test_rename(n):
    User.objects.filter(username=f"user{n}").update(username="renamed")
    assert not User.objects.filter(username=f"user{n}").exists() and User.objects.filter(username__startswith="user").count() == 19
