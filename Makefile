# Every target ends by itself and says what it does. `make run` and `make test` first install what is missing.
.PHONY: help install run test docs chaos-requests fuzz-records bench clean
.DEFAULT_GOAL := help

PY := .venv/bin/python

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' Makefile

install:  ## Debian packages, .venv, Kafka's jars, the web chat, the live page's libraries: each once
	@sh agents/local/servers/install.sh

run: install  ## servers, ten nodes, a replayed stream, shown live (Ctrl-C stops all)
	@.venv/bin/geolane up

test:  ## lint, types, architecture, then all tests with real servers
	@sh agents/local/servers/install.sh test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) -m tests

docs:  ## the pages as a site in .local/site, which nothing outside is needed to read
	@sh agents/local/servers/install.sh docs
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "open .local/site/index.html, or for the search: $(PY) -m mkdocs serve"

chaos-requests:  ## each request of a transaction held, lost, doubled, reset: 144 cases, by Kafka version; writes docs/chaos-requests.md
	@GEOLANE_KAFKA="$(KAFKA)" sh agents/local/servers/install.sh test
	$(PY) -m tests.late_requests $(KAFKA)

fuzz-records:  ## 100,000 records of any kind through a live stack; RECORDS=, SECONDS=, SEED=
	@sh agents/local/servers/install.sh test
	$(PY) -m tests.record_fuzz $(if $(RECORDS),--records $(RECORDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

bench:  ## throughput, recovery, scoring, placement, policies, real RTTs, forecast, hotspots, analytics' engines, distance, events without coordinates, places, each beside others; writes docs/*.md
	@sh agents/local/servers/install.sh bench
	$(PY) -m benchmarks
	$(PY) -m benchmarks.recovery
	$(PY) -m benchmarks.scoring
	$(PY) -m benchmarks.placement
	$(PY) -m benchmarks.policies
	$(PY) -m benchmarks.real_rtt
	$(PY) -m benchmarks.forecast
	$(PY) -m benchmarks.hotspots
	$(PY) -m benchmarks.analytics_engines
	$(PY) -m benchmarks.hotspot_lag
	$(PY) -m benchmarks.distance
	$(PY) -m benchmarks.unplaced
	$(PY) -m benchmarks.places

clean:  ## ends what a killed run left; removes the run folder, .venv, all that was installed here, and caches
	@if [ -x $(PY) ]; then $(PY) -m agents.local.servers.servers; fi
	rm -rf .run .venv .local *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
