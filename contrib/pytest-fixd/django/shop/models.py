# SPDX-License-Identifier: MIT
"""A shop."""

from django.contrib.auth.models import User
from django.db import models, transaction


class Category(models.Model):
    name = models.CharField(max_length=40, unique=True)


class Product(models.Model):
    category = models.ForeignKey(Category, models.PROTECT)
    name = models.CharField(max_length=40, db_index=True)
    cents = models.PositiveIntegerField()


class Stock(models.Model):
    product = models.OneToOneField(Product, models.CASCADE)
    pieces = models.PositiveIntegerField()


class Customer(models.Model):
    user = models.OneToOneField(User, models.CASCADE)
    balance = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(check=models.Q(balance__gte=0), name="no_debts")]


class Order(models.Model):
    customer = models.ForeignKey(Customer, models.CASCADE)
    at = models.DateTimeField(auto_now_add=True)
    paid = models.BooleanField(default=False)

    def total(self):
        cents = models.F("product__cents") * models.F("pieces")
        return self.lines.aggregate(total=models.Sum(cents))["total"] or 0

    def add(self, product, pieces=1):
        """Takes it from the stock."""
        with transaction.atomic():
            stock = Stock.objects.select_for_update().get(product=product)
            stock.pieces -= pieces
            stock.save()
            return self.lines.create(product=product, pieces=pieces)

    def pay(self):
        with transaction.atomic():
            Customer.objects.filter(pk=self.customer_id).update(balance=models.F("balance") - self.total())
            Payment.objects.create(order=self, cents=self.total())
            self.paid = True
            self.save()


class Line(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT)
    pieces = models.PositiveIntegerField()


class Payment(models.Model):
    order = models.OneToOneField(Order, models.CASCADE)
    cents = models.PositiveIntegerField()


class Review(models.Model):
    product = models.ForeignKey(Product, models.CASCADE, related_name="reviews")
    stars = models.PositiveSmallIntegerField()
    text = models.TextField(blank=True)
    tags = models.ManyToManyField("Tag")


class Tag(models.Model):
    name = models.SlugField(unique=True)


class Visit(models.Model):
    """Who has used this database: every test looks whether it is the first."""

    who = models.TextField()
