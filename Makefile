# Every target makes what it needs: the virtual environment, its packages, the compiled modules.
# Stamp files in the environment keep a second run from doing anything twice.
#
#   make build [DEBUG=1]      compile fastpath and the protocol path in place (DEBUG=1: every check on)
#   make demo | test | test-guest | test-dist | bench | docs | docs-check | dist | lint | types | stubs
#   make test-asan | test-tsan | clean
#   make bench-pytest         the rows of bench as tests of pytest-benchmark
#   make bench-record         every row with every peer, and from that the figures of README and docs
#   make bench-edit           seconds from a changed function body to its running test
#   make bench-guest          a Linux guest on our NIC beside QEMU's own e1000 (needs root)
#   PYTHON=python3.13         use this interpreter, in an environment of its own (.venv-3.13)
#   TESTS=... PYTEST=...      what to test, further options for pytest
#   E1000EMU_EXAMPLES=0.2     a fifth of the examples for each property (10: for a long night)
#   E1000EMU_CASES=4          at most four cases of each test that has parameters
#   E1000EMU_FUZZ=600         seconds for the device's fuzzer, of 24 under the sanitizers
#   DEMO=... BENCH=...        further options for the commands

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

ifdef PYTHON
  VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
  ifeq ($(VERSION),)
    $(error PYTHON=$(PYTHON) does not run; name an interpreter of CPython 3.11 or newer)
  endif
  VENV ?= .venv-$(VERSION)
else
  VENV ?= .venv
endif

PY := $(VENV)/bin/python
ABS_PY = $(abspath $(PY))
# Commands and packages are installed while the modules are compiled. pip writes no bytecode: Python
# does so at the first import, and most of a package is never imported.
PIP = flock $(VENV)/.pip $(PY) -m pip install -q --disable-pip-version-check --no-compile
MAKEFLAGS += -j2
MODE := $(if $(filter-out 0,$(DEBUG)),debug,release)
BUILT := $(VENV)/.built-$(MODE)
SOURCES := $(wildcard benchmarks/*.pyx fastpath/*/*.pyx fastpath/*/*.pxd fastpath/_c/*.h scripts/stackc/*.*) \
	$(shell find stack -name '*.py')
# Hundreds of tests start the command, each by the bytecode of the one before it.
export PYTHONDONTWRITEBYTECODE :=
# What Cython wrote is kept: another interpreter, a sanitizer and the packages take it from there.
export E1000EMU_CYTHON_CACHE ?= $(CURDIR)/.cache/cython
JOBS ?= 2
# Tests often wait for a guest, a child or a clock, so two per processor keep it busy.
WORKERS ?= $(shell echo $$(( 2 * $(JOBS) )))
TESTS ?= tests
PYTEST ?=
# The stack's tests run twice, first with its sources uncompiled and a third of the examples;
# `make test UNCOMPILED=` leaves that out.
UNCOMPILED ?= tests/stack
# Options of pytest-xdist; `make test XDIST=` runs in one process, as a debugger wants it.
XDIST ?= -n $(WORKERS) --dist loadgroup
DEMO ?=
BENCH ?=
# States that the stamps do not show. stale: compiled from other sources than those here, whatever
# their age; moved: the environment came with a copied tree; unlinked: its packages are another tree's.
FOUND := $(if $(wildcard $(PY)),$(shell $(PY) -I fastpath/built.py))
ifneq ($(filter moved unlinked,$(FOUND)),)
  $(info $(VENV) belongs to another tree: it is made anew)
  $(shell rm -f $(VENV)/.installed $(if $(filter moved,$(FOUND)),$(VENV)/.made $(VENV)/.packages-*))
endif
# A guest's Linux is fetched and booted by `make test-guest` only, the packages built by
# `make test-dist`; tests/docs wants the built site.
APART := $(foreach dir,tests/guest tests/dist tests/docs,$(if $(findstring $(dir),$(TESTS)),,--ignore=$(dir)))
SPHINX = rm -rf site && $(PY) -m sphinx -q -E -W --keep-going -j $(JOBS) -d build/doctrees docs site

.PHONY: build demo test test-packetdrill stale guest-images test-guest test-dist bench bench-pytest bench-record bench-guest bench-edit docs docs-check dist lint types stubs test-asan test-tsan clean format

build: $(VENV)/.installed $(BUILT)

# An environment that came with a copied tree is made anew by the same interpreter. The stamps of what
# was compiled stay, since the modules came along too.
$(VENV)/.made:
ifneq ($(filter moved,$(FOUND)),)
	@python=$$($(PY) -c 'import sys; print(sys._base_executable)'); \
	rm -rf $(VENV)/[!.]*; \
	"$$python" -m venv $(VENV); \
	touch $@
else
	@python=$${PYTHON:-$$(scripts/python-for)}; \
	scripts/system-packages build "$$python"; \
	$(PY) -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV); \
	touch $@
endif
$(VENV)/.made: export PYTHON := $(PYTHON)

$(VENV)/.packages-%: pyproject.toml | $(VENV)/.made
	@mapfile -t wanted < <($(PY) scripts/requirements.py $*); \
	$(PIP) "$${wanted[@]}"; \
	touch $@

# The command and the packages, as links to this tree. Without extensions, since pip would compile
# them again each time, in a directory of its own.
$(VENV)/.installed: pyproject.toml | $(VENV)/.packages-build $(VENV)/.packages-run
	@E1000EMU_ONLY=nothing $(PIP) --no-deps --no-build-isolation -e .; \
	touch $@

# One make at a time; one that waited finds the stamp that the other has touched.
$(BUILT): setup.py $(SOURCES) $(filter stale,$(FOUND)) | $(VENV)/.packages-build
	@flock -o $(VENV)/.build $(SHELL) $(.SHELLFLAGS) ' \
	if [ -e $@ ] && [ "$$(stat -c %y $@)" != "$(shell stat -c %y $@ 2>/dev/null)" ]; then exit; fi; \
	force=; \
	if [ "$$(cat $(VENV)/.mode 2>/dev/null || echo $(MODE))" != $(MODE) ]; then \
	    force=--force; : "modules of the other mode lie in place"; \
	    echo mixed >$(VENV)/.mode; \
	fi; \
	rm -f $(filter-out $@,$(wildcard $(VENV)/.built-*)); \
	export E1000EMU_CYTHON_DEBUG=$(if $(filter debug,$(MODE)),1,0); \
	$(ABS_PY) setup.py -q build_ext --inplace $$force; \
	echo $(MODE) >$(VENV)/.mode; \
	touch $@'

demo: build
	@$(VENV)/bin/e1000emu demo $(DEMO)

bench: build
	@$(VENV)/bin/e1000emu bench $(BENCH)

bench-record: build
	@scripts/system-packages peers
	@$(PIP) "PyTCP>=2.7.6" 2>/dev/null || echo "bench-record: without PyTCP" >&2
	@$(VENV)/bin/e1000emu bench --quick --rounds 11 --all --peers --record benchmarks/recorded.json $(BENCH)
	@$(PY) docs/generate.py

# What `python -m pytest benchmarks --benchmark-only` runs; PYTEST=--benchmark-save=NAME and so on.
bench-pytest: build $(VENV)/.packages-bench
	@$(PY) -m pytest benchmarks --benchmark-only $(PYTEST)

bench-guest: build
	@scripts/system-packages bench
	@$(VENV)/bin/e1000emu guest --prepare-only
	@$(PY) benchmarks/bench_guest.py $(BENCH)

bench-edit: build $(VENV)/.packages-test
	@$(PY) benchmarks/edit_to_test.py

test: build $(VENV)/.packages-test
	@scripts/system-packages test
	@$(if $(filter tests,$(TESTS)),$(if $(UNCOMPILED),E1000EMU_UNCOMPILED=1 \
	    E1000EMU_EXAMPLES=$${E1000EMU_EXAMPLES:-0.3} \
	    $(PY) -m pytest $(XDIST) $(PYTEST) $(UNCOMPILED)))
	@$(PY) -m pytest $(XDIST) $(PYTEST) $(APART) $(TESTS)

# Tests that miss what a guest needs are skipped with the reason, in CI they fail.
guest-images: build
	@scripts/system-packages guest
	@for kernel in bookworm trixie trixie-backports; do \
	    $(VENV)/bin/e1000emu guest --prepare-only --kernel $$kernel || true; done
	@$(PY) -m tests.guest.fetch

test-guest: guest-images $(VENV)/.packages-test
	@$(PY) -m pytest $(XDIST) $(PYTEST) tests/guest

# An outside program and its scripts: make test-packetdrill PACKETDRILL=path SCRIPTS=directory
test-packetdrill: build
	@$(PY) -m tests.packetdrill --packetdrill "$(PACKETDRILL)" --scripts "$(SCRIPTS)" $(ARGS)

test-dist: build $(VENV)/.packages-test $(VENV)/.packages-dist
	@$(PY) -m pytest $(PYTEST) tests/dist

lint: $(VENV)/.packages-build $(VENV)/.packages-lint
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check -q .
	@PATH="$(abspath $(VENV))/bin:$$PATH" cython-lint fastpath
	@$(VENV)/bin/lint-imports --no-cache

format: $(VENV)/.packages-lint
	@$(VENV)/bin/ruff check -q --fix-only . && $(VENV)/bin/ruff format -q .

types: stubs $(VENV)/.packages-test
	@$(VENV)/bin/mypy

# The stubs of the compiled modules say what the modules have. Not that each type is a base of its own
# (disjoint_base): every compiled class is, and the mark is not in typing before Python 3.15.
stubs: build $(VENV)/.packages-lint
	@$(PY) -m mypy.stubtest fastpath benchmarks.pktgen --concise --ignore-disjoint-bases --allowlist scripts/stubtest.txt

# Writes the generated files and builds the site; a warning is an error.
docs: build $(VENV)/.packages-docs
	@$(PY) docs/generate.py
	@$(SPHINX)
	@echo site/index.html

# Fails when a generated file is not what `make docs` writes, then looks at the site in a browser.
docs-check: build $(VENV)/.packages-docs $(VENV)/.packages-test
	@scripts/system-packages docs
	@COLUMNS=200 PYTHONHASHSEED=1 $(PY) docs/generate.py --check # whatever the terminal and the order of sets
	@$(SPHINX)
	@$(PY) -m pytest $(PYTEST) tests/docs

# The wheel is made from the source distribution, so that it has no stray files of the tree.
dist: $(VENV)/.packages-build $(VENV)/.packages-dist
	@$(PY) -m build --no-isolation --outdir dist . >/dev/null
	@ls dist/*.whl dist/*.tar.gz

# The sanitizers get a copy of the tree, so that their modules never meet the ones in place.
test-asan: $(VENV)/.installed $(VENV)/.packages-test
	@VENV=$(VENV) WORKERS=$(WORKERS) TESTS="$(if $(findstring command,$(origin TESTS)),$(TESTS))" scripts/test-asan $(PYTEST)

test-tsan: $(VENV)/.packages-build $(VENV)/.packages-run $(VENV)/.packages-test
	@VENV=$(VENV) WORKERS=$(WORKERS) scripts/test-tsan $(PYTEST)

clean:
	rm -rf build dist site .cache *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	rm -f fastpath/*.c fastpath/*.so fastpath/*/*.c fastpath/*/*.so fastpath/*/*.html fastpath/.built.* stack/.built.* .venv*/.built-*
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
