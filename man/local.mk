dist_man_MANS += \
	man/fixctl.1 \
	man/fixd-protocol.7 \
	man/fixd-recipes.7 \
	man/fixd.7 \
	man/fixd.8 \
	man/fixd.ini.5 \
	man/libfixd-builder.3 \
	man/libfixd-preload.8 \
	man/libfixd.3

# The manual as a small site that needs no network. A page is known by its name and section, as in fixd.7.html.
html-local: $(dist_man_MANS)
	$(srcdir)/man/site '$(MANDOC)' '$(srcdir)' html $(dist_man_MANS)
.PHONY: html-local
EXTRA_DIST += man/style.css man/site
clean-local: clean-html
clean-html:
	rm -rf html
.PHONY: clean-html
