# make demo and make test create .venv and install pti into it on the first call; later calls start at once.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
.PHONY: help demo test lint

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# A relative name, so that this folder's path may contain spaces.
.venv/installed: pyproject.toml
	@echo "Creating .venv and installing pti into it (once; takes some minutes) …"
	"$(PYTHON)" -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch .venv/installed

test: .venv/installed ## run the fast tests (under 6 minutes on 2 cores)
	.venv/bin/python -m pytest

demo: .venv/installed ## train, translate and evaluate on the phantom, with one report (about 15 minutes on two idle cores)
	.venv/bin/python -m pti.demo

lint: .venv/installed ## check format, lint, spelling and types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/codespell
	.venv/bin/pyright
