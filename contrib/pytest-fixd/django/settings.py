# SPDX-License-Identifier: MIT
"""The settings of the shop: one database, of a server that its tests say where to find."""

import os

SECRET_KEY = "of tests"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "django.contrib.sites", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "HOST": os.environ.get("SHOP_HOST", ""), "NAME": "shop", "USER": "test"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SITE_ID = 1
USE_TZ = True
