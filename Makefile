# hartonomous: build, install, demo, tests. `make help` lists the targets.

EXTENSION  = hartonomous
MODULE_big = hartonomous
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" hartonomous.control)

# The install script is these files, joined in this order.
SQL_PARTS = \
	sql/settings.sql \
	sql/matrix.sql \
	sql/hilbert.sql \
	sql/atom_ids.sql \
	sql/models.sql \
	sql/weights.sql \
	sql/atoms.sql \
	sql/decompose.sql \
	sql/position_index.sql \
	sql/charts.sql \
	sql/ingest.sql \
	sql/vocabulary.sql \
	sql/tokenizers.sql \
	sql/neurons.sql \
	sql/python.sql \
	sql/tokenize.sql \
	sql/constraints.sql \
	sql/positions.sql \
	sql/geometry_learning.sql \
	sql/nearest.sql \
	sql/neighbors.sql \
	sql/why_near.sql \
	sql/context.sql \
	sql/prefix.sql \
	sql/kv_cache.sql \
	sql/transformer.sql \
	sql/generation_options.sql \
	sql/sampling.sql \
	sql/logits.sql \
	sql/generation.sql \
	sql/choices.sql \
	sql/generate.sql \
	sql/generate_many.sql \
	sql/generate_stream.sql \
	sql/chat.sql \
	sql/scores.sql \
	sql/quantize.sql \
	sql/beam_search.sql

INSTALL_SQL = sql/$(EXTENSION)--$(EXTVERSION).sql
DATA_built  = $(INSTALL_SQL)
DATA        = $(wildcard sql/$(EXTENSION)--*--*.sql)
OBJS        = $(patsubst %.c,%.o,$(sort $(wildcard src_c/*.c)))

# PostgreSQL's headers count as system headers, so that the strict warnings are about this code only.
# -Wunused-parameter stays off: fmgr functions that take no argument ignore fcinfo.
PCRE2_CONFIG ?= pcre2-config
PG_CPPFLAGS = -isystem $(includedir_server) $(shell $(PCRE2_CONFIG) --cflags 2>/dev/null) -DHART_VERSION='"$(EXTVERSION)"'
PG_CFLAGS   = -Wall -Wextra -Wno-unused-parameter $(if $(WERROR),-Werror)
SHLIB_LINK  = -lm -lpthread $(shell $(PCRE2_CONFIG) --libs8 2>/dev/null || echo -lpcre2-8)

# Bitcode would serve only to inline these functions into JIT-compiled expressions, and needs clang.
override with_llvm := no

PG_CONFIG ?= pg_config
export PG_CONFIG

all:

.PHONY: all demo demo-stop test bench dist help setup transform check-installed

demo:          ; @bash dev/demo.sh
demo-stop:     ; @bash dev/demo.sh stop
test:          ; @bash dev/test.sh
bench:         ; @bash bench/run.sh $(BENCH_ARGS)
setup:         ; @bash dev/setup.sh
dist:          ; @bash dev/dist.sh
help:
	@echo 'make              build the extension for the server of PG_CONFIG (now: $(PG_CONFIG))'
	@echo 'make install      install it, with the Python packages that the server needs'
	@echo 'make uninstall    remove all of that'
	@echo 'make demo         set up everything, start a private server, run the demo model'
	@echo 'make demo-stop    stop that server'
	@echo 'make test         set up everything and run all tests'
	@echo 'make bench        measure speed beside llama.cpp and transformers (BENCH_ARGS=--help lists options)'
	@echo 'make dist         make the release zip'
	@echo 'make setup        install the system packages that demo and test need (Debian)'
	@echo 'make clean        remove what was built'

# The targets above must work before PostgreSQL is there; everything below needs it.
STANDALONE = demo demo-stop test bench dist help setup
ifneq (,$(if $(MAKECMDGOALS),$(filter-out $(STANDALONE),$(MAKECMDGOALS)),all))

PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq (,$(wildcard $(PGXS)))
$(error PGXS of $(PG_CONFIG) not found: install the server headers (Debian: `make setup`, or postgresql-server-dev-15) or name another pg_config with PG_CONFIG=)
endif
EXTRA_CLEAN = $(INSTALL_SQL).tmp
include $(PGXS)

$(OBJS): $(wildcard src_c/*.h) hartonomous.control

# Plain loops over many numbers, which gcc turns into vectors of any length only at this level.
src_c/attention.o src_c/layers.o: override CFLAGS += -O3

$(INSTALL_SQL): $(SQL_PARTS) hartonomous.control Makefile
	@{ printf '%s\n' '\echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit'; \
	   for part in $(SQL_PARTS); do printf '\n-- %s\n\n' $$part; cat $$part || exit 1; done; } > $@.tmp
	@mv $@.tmp $@

# The numpy transform is a shared object of its own: this one never links libpython.
TRANSFORM = -C plpython/transform with_llvm=no WERROR=$(WERROR)

all: transform
transform:     ; $(MAKE) $(TRANSFORM) all
install:       install-transform install-python
uninstall:     uninstall-transform uninstall-python
clean:         clean-transform clean-tests

.PHONY: install-transform install-python uninstall-transform uninstall-python clean-transform clean-tests
install-transform: transform
	$(MAKE) $(TRANSFORM) install
uninstall-transform:
	$(MAKE) $(TRANSFORM) uninstall
clean-transform:
	$(MAKE) $(TRANSFORM) clean
clean-tests:
	$(MAKE) -C test/c clean

# $(PYTHON) is the interpreter that PostgreSQL was configured with; the script checks that plpython3 links it.
SERVER_PYTHON = bash dev/server-python.sh
SERVER_PYTHON_ENV = DESTDIR='$(DESTDIR)' PKGLIBDIR='$(pkglibdir)' PYTHON='$(PYTHON)'
install-python:
	@$(SERVER_PYTHON_ENV) $(SERVER_PYTHON) install
uninstall-python:
	@$(SERVER_PYTHON_ENV) $(SERVER_PYTHON) uninstall

# Succeeds when what is installed is what was built.
check-installed: all
	@cmp -s hartonomous.so '$(DESTDIR)$(pkglibdir)/hartonomous.so'
	@cmp -s plpython/transform/hartonomous_plpython.so '$(DESTDIR)$(pkglibdir)/hartonomous_plpython.so'
	@for file in $(EXTENSION).control $(DATA_built) $(DATA); do \
	   cmp -s $$file '$(DESTDIR)$(datadir)/extension/'$$(basename $$file) || exit 1; done
	@$(SERVER_PYTHON_ENV) $(SERVER_PYTHON) check

endif
