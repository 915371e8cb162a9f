# The commands of this project; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test coverage lint openapi postman screenshot simulate faults fuzz soak bench bench-check bench-record audit clean

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):[^#]*## */make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

# exec: a signal for make's child reaches the service itself, and make waits for it to end.
run: $(VENV)/.installed  ## make the environment, start MongoDB and the service (Ctrl-C ends both)
	@exec $(BIN)/python -m ticketing

# Many tests wait for processes of theirs, so there may be more of these than cores. tests/conftest.py says in which order.
TEST_PROCESSES ?= 4

PYTEST_ALL = $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test: lint  ## linter, type checker and all tests
	@$(PYTEST_ALL)

# Apart, for it makes the tests take two thirds longer.
coverage: $(VENV)/.installed-dev  ## all tests, and the lines and branches that they do not reach: 5 % at most
	@$(PYTEST_ALL) --cov --cov-report=term

lint: $(VENV)/.installed-dev  ## flake8 and mypy
	@$(BIN)/python -m flake8
	@$(BIN)/python -m mypy

# npx of the environment brings what newman and redocly run on.
openapi: $(VENV)/.installed-dev  ## examples, docs/openapi.json and docs/postman anew; redocly looks it over
	@$(BIN)/python -m tests.api.story
	@$(BIN)/python -m tests.service.postman
	@PATH=$(CURDIR)/$(BIN):$$PATH npx --yes @redocly/cli@2.77.0 lint docs/openapi.json --config docs/redocly.yaml

postman: $(VENV)/.installed-dev  ## newman plays the Postman collection against a service that it starts
	@$(BIN)/python -m tests.service.postman run

screenshot: $(VENV)/.installed-dev  ## docs/docs-page.png anew, while a test books on the page
	@DOCS_SCREENSHOT=docs/docs-page.png $(BIN)/python -m pytest -q tests/service/test_docs_page.py

SEEDS ?= 10000
FIRST_SEED ?= 1

# SEED, CONTROLS and CONTROL go through the environment, as make passes on what stands on its command line.
simulate: $(VENV)/.installed-dev  ## the seeded simulator: SEEDS=10000 FIRST_SEED=1, or SEED=17 to be told one story, or CONTROLS=1
	@$(BIN)/python -m tests.faults.simulator $(SEEDS) $(FIRST_SEED)

# Where no time is told, elections come as soon as compose.yaml has them.
faults: $(VENV)/.installed-dev  ## kills, frozen members, cut networks under load, and what clients saw: ELECTION_TIMEOUT_MS=2000
	@$(if $(ELECTION_TIMEOUT_MS),ELECTION_TIMEOUT_MS=$(ELECTION_TIMEOUT_MS)) $(BIN)/python -m pytest -q -rP --show-capture=stdout \
		tests/faults/test_workers.py tests/faults/test_replica_set.py tests/faults/test_proxy.py

EXAMPLES ?= 2000

fuzz: $(VENV)/.installed-dev  ## random requests against /openapi.json: EXAMPLES=2000 for each operation
	@FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n 2 --dist load tests/api/test_fuzz_reads.py \
		tests/api/test_fuzz_writes.py

MINUTES ?= 30

soak: $(VENV)/.installed-dev  ## full load for MINUTES=30, and whether the memory stays flat; draws docs/soak.png
	@$(BIN)/python -m tests.bench.soak $(MINUTES)

PIP_AUDIT_VERSION := 2.10.1

# Asks a public service about each package, so it is no part of `make test`.
audit: $(VENV)/.installed  ## known vulnerabilities of what the service runs on
	@$(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check \
		pip-audit==$(PIP_AUDIT_VERSION)
	@$(VENV)/audit/bin/pip-audit --strict --progress-spinner off -r requirements.txt

ROUNDS ?= 5
SECONDS ?= 5
BENCH = $(BIN)/python -m tests.bench --rounds $(ROUNDS) --seconds $(SECONDS) \
	$(if $(SUBJECTS),--subjects $(SUBJECTS)) $(if $(CONNECTIONS),--connections $(CONNECTIONS))

bench: $(VENV)/.installed-dev  ## how fast, beside bare Flask: ROUNDS=5 SECONDS=5 SUBJECTS="book status" CONNECTIONS="32"
	@$(BENCH)

bench-check: $(VENV)/.installed-dev  ## the same, and whether a ratio has fallen behind the recorded one by 15 %
	@$(BENCH) --recorded docs/performance.json

bench-record: $(VENV)/.installed-dev  ## the same with growth and workers, written to docs/performance.md, .json and .png
	@$(BENCH) --record

clean:  ## remove the environment and caches; .env and the data under var/ stay
	rm -rf $(VENV) .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second run start at once: pip runs again only when a requirements file has changed.
$(VENV)/.installed: requirements.txt | $(VENV)/.made
	@echo "Installing what the service needs into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements.txt | $(VENV)/.made
	@echo "Installing what the service and its tests need into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.installed

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "There is no $(PYTHON): install Python 3.11 or later, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is `$(PYTHON) -V 2>&1`, and Python 3.11 or later is needed: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module: install it (Debian and Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
