# Every target sets up what it needs: a virtual environment in .venv, made anew when its inputs change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PACKAGES := -c constraints.txt -e '.[learner,simulators,studies,loadtest,dev]'
# A file's tests stay in one process, and with them the Kafka or PostgreSQL that they share.
FAST_TESTS := $(BIN)/python -m pytest -m 'not slow' --numprocesses auto --dist loadfile
DEMO_SECONDS ?= 120
WORLD ?= shop
LOADTEST_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-kafka test check lint types format serve chaos outages garbage bench wrk bench-ingest loadtest clean

help: ## List what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@# uv unpacks torch in a third of pip's time; pip knows mirrors that uv was not told of.
	$(PIP) uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(PACKAGES) || $(PIP) $(PACKAGES)
	@touch $@

setup: $(INSTALLED) ## Make .venv with the command `steadyrank` in it

demo: setup ## Shoppers teach the recommender for two minutes (WORLD=shop DEMO_SECONDS=120); leaves report.json
	@rm -rf data/demo
	$(BIN)/steadyrank up --world $(WORLD) --data data/demo --for $(DEMO_SECONDS)s --report report.json

demo-kafka: setup ## The same on Apache Kafka and PostgreSQL, fetched and started for it
	@rm -rf data/demo-kafka
	$(BIN)/python -m loadtest.demo_kafka --world $(WORLD) --data data/demo-kafka --for $(DEMO_SECONDS)s --report report.json

serve: setup ## The ranker alone, for ./loop.toml
	$(BIN)/steadyrank serve

chaos: setup ## Kill everything at random under load, then compare what was acknowledged with the store (25 minutes)
	$(BIN)/python -m loadtest.chaos --kills 200 --events 500000 --json chaos.json

outages: setup ## /recommend while Kafka, PostgreSQL, the learner, and all at once are away for a minute each
	$(BIN)/python -m loadtest.outages

garbage: setup ## A million bad records among a hundred thousand good ones, to Kafka, and then an audit (5 minutes)
	$(BIN)/python -m loadtest.garbage

bench: setup wrk ## The ranker beside what the machine can do, and beside others; writes docs/performance.md (over half an hour)
	$(BIN)/python -m bench

wrk:
	@command -v wrk >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq wrk; } || \
		{ echo 'make bench needs wrk: apt-get install wrk, or your system'"'"'s own way to it' >&2; exit 1; }

bench-ingest: setup ## Kafka to committed rows, beside the raw consumer and the raw upsert
	$(BIN)/python -m bench.ingest

loadtest: setup ## Load by locust, which fails where a threshold is broken (LOADTEST_SECONDS=60 KAFKA=1)
	$(BIN)/python -m loadtest.load --seconds $(LOADTEST_SECONDS) $(if $(KAFKA),--kafka)

check: lint types ## Lint, types, and the fast tests
	$(FAST_TESTS)

test: setup ## Every test, on real parts
	$(FAST_TESTS)
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

format: setup ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment and the demo's data
	rm -rf $(VENV) data/demo data/demo-kafka report.json chaos.json
