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
