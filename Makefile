# make demo, make test: each makes .venv and installs pti on its first call; a second call starts at once.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
.PHONY: help demo test lint

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# Named relative to this folder, so that a space in the folder's own name does no harm.
.venv/installed: pyproject.toml
	@echo "Making .venv and installing pti into it (once; some minutes) …"
	"$(PYTHON)" -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch .venv/installed

test: .venv/installed ## run the tests (under 6 minutes on 2 cores)
	.venv/bin/python -m pytest

demo: .venv/installed ## the whole story on the phantom, told on one page (about 15 minutes on two idle cores)
	.venv/bin/python -m pti.demo

lint: .venv/installed ## check format, lint and types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyright
