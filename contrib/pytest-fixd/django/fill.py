# SPDX-License-Identifier: MIT
"""What the shop has before any test, written by a program as a migration would."""

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import transaction  # noqa: E402
from shop.models import Category, Customer, Product, Stock, Tag  # noqa: E402

with transaction.atomic():
    for number in range(5):
        category = Category.objects.create(name=f"category {number}")
        for k in range(20):
            product = Product.objects.create(category=category, name=f"product {number}.{k}", cents=100 * number + k + 1)
            Stock.objects.create(product=product, pieces=10)
    for number in range(20):
        user = User.objects.create_user(f"user{number}", password=f"secret{number}")
        Customer.objects.create(user=user, balance=1000 * number)
    Tag.objects.bulk_create(Tag(name=name) for name in ("good", "bad", "late"))
