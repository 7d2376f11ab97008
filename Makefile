# What a developer runs, and what .ci/run runs. BIN is where the tools are: make check BIN=.venv/bin/
BIN ?=

.PHONY: check lint test

check: lint test

lint:
	$(BIN)ruff check
	$(BIN)mypy

test:
	$(BIN)pytest -q
