# What people type: demo, test, soak, check, bench. Needs GNU make, a POSIX shell and python3 >= 3.11; `make help` tells more.
# The virtual environment in .venv is made and kept up to date by itself; pip and apt use this machine's configuration.

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
# What the tests want of Debian, beyond what every Debian has.
DEBIAN_FOR_TESTS = binutils busybox-static catatonit conmon debootstrap e2fsprogs golang-github-containers-common graphviz iperf3 iproute2 iputils-ping mount nftables openssh-client openssh-server openssl passwd procps qemu-system-x86 qemu-utils runc socat tcl util-linux vde2 xz-utils zsh zstd
PYTEST = $(BIN)/python -m pytest
# First the tests of the pure parts, on all cores (pytest-xdist); then those with real processes and sockets, three
# classes at a time, for they wait a lot; last those of them that measure (tests/conftest.py lists them), one after the other.
UNIT_FLAGS = -rs -n 2 --ignore=tests/live
LIVE_FLAGS = -rs -n 3 --dist loadscope --no-loadscope-reorder -m 'not alone' tests/live
ALONE_FLAGS = -rs -m alone tests/live
PACKAGES = hostline tests bench tools

.DELETE_ON_ERROR:
.PHONY: help demo test soak check unit types lint format docs docs-in-date bench clean

help:
	@echo 'make demo          start a daemon, swap an experiment in, show its status, end clean'
	@echo 'make test          run all tests; installs what they need'
	@echo 'make soak          the same tests with full counts'
	@echo 'make check         types, lint, docs in date, and the tests without processes and sockets'
	@echo 'make types lint docs-in-date unit   each of these alone'
	@echo 'make format docs   mend what lint and docs-in-date complain of'
	@echo 'make bench         measure; BENCH_FLAGS=--help tells how'
	@echo 'make clean         remove what these made'

demo: $(VENV)/.server
	@$(BIN)/python tools/demo.py

test: $(VENV)/.test $(VENV)/.debian
	$(PYTEST) $(UNIT_FLAGS) $(PYTEST_FLAGS)
	$(PYTEST) $(LIVE_FLAGS) $(PYTEST_FLAGS)
	$(PYTEST) $(ALONE_FLAGS) $(PYTEST_FLAGS)

soak: $(VENV)/.test $(VENV)/.debian
	HOSTLINE_SOAK=1 $(PYTEST) -rs $(PYTEST_FLAGS)

check: types lint docs-in-date unit

unit: $(VENV)/.test
	$(PYTEST) -q -n 2 --ignore=tests/live $(PYTEST_FLAGS)

types: $(VENV)/.test
	$(BIN)/mypy $(PACKAGES:%=-p %)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.server
	$(BIN)/python -m tools.pages

docs-in-date: $(VENV)/.server
	$(BIN)/python -m tools.pages --check

bench: $(VENV)/.test
	$(BIN)/python -m bench $(BENCH_FLAGS)

clean:
	rm -rf $(VENV) build dist *.egg-info twistd_plugins/*.egg-info .coverage .coverage.* .hypothesis .mypy_cache
	rm -rf .pytest_cache .ruff_cache _trial_temp* tests.*/ twistd_plugins/twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	sh tools/prepare.sh venv $(PYTHON) $(VENV)

# uvloop only makes it faster: without a wheel for this machine, do without.
$(VENV)/.server: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --only-binary uvloop --editable '.[server,fast]' || $(BIN)/pip install --quiet --editable '.[server]'
	touch $@

$(VENV)/.test: $(VENV)/.server
	$(BIN)/pip install --quiet --editable '.[server,test]'
	touch $@

$(VENV)/.debian: Makefile | $(VENV)/.test
	sh tools/prepare.sh debian $(DEBIAN_FOR_TESTS)
	touch $@
