# Two commands for a newcomer: `make demo` and `make test`. Both set the machine up first, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where torch's CPU wheels come from, for machines that need no CUDA: make TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Processes that the tests are spread over.
WORKERS ?= 2
STAMP := $(VENV)/.ready
# LeRobot wants other versions of much, so that it has an environment of its own.
LEROBOT ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/saccade/lerobot-venv
LEROBOT_VERSION ?= 0.4.4
LEROBOT_STAMP := $(LEROBOT)/.ready-$(LEROBOT_VERSION)
export MUJOCO_GL ?= egl

.PHONY: help setup demo test lint types layers format tables peers lerobot clean

help:
	@echo "make demo    train, evaluate and film a gaze agent (minutes on 2 cores)"
	@echo "make test    the whole test suite (under 15 minutes on 2 cores)"
	@echo "make lint types layers    what CI checks beside the tests"
	@echo "make tables  rewrite the tables in README and docs from docs/results/*.json"
	@echo "make peers   benchmark against other suites (installs them in a venv of their own)"
	@echo "make lerobot check that LeRobot reads what we export (installs it in a venv of its own)"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt .ci/system.sh
	@bash .ci/system.sh
	@echo "== python environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		-c constraints.txt -e '.[dev]'
	@touch $(STAMP)
	@echo "== ready"

demo: setup
	@echo "== demo: an agent learns to look"
	@$(BIN)/python -m benchmarks.gaze_demo --run outputs/demo

test: setup
	@echo "== tests"
	@$(BIN)/python -m pytest -q -m "not slow" -n $(WORKERS) --dist loadfile

lint: setup
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup
	@echo "== types"
	@test -d typings/mujoco || $(BIN)/python .ci/stubs.py
	@$(BIN)/pyright

layers: setup
	@echo "== layers"
	@$(BIN)/lint-imports

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

tables: setup
	@$(BIN)/python -m benchmarks.tables

peers: setup
	@$(BIN)/python -m benchmarks.peers

lerobot: setup $(LEROBOT_STAMP)
	@SACCADE_LEROBOT=$(LEROBOT)/bin/python $(BIN)/python -m pytest -q tests/test_lerobot.py

$(LEROBOT_STAMP):
	@echo "== LeRobot $(LEROBOT_VERSION) in $(LEROBOT) (some gigabytes, minutes)"
	@test -x $(LEROBOT)/bin/python || $(PYTHON) -m venv $(LEROBOT)
	@$(LEROBOT)/bin/python -m pip install -qq --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		lerobot==$(LEROBOT_VERSION)
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info typings outputs
