# `make help` (or `make` alone) lists the verbs; `clean`, which it leaves out, starts over.
# Every verb makes the environment it needs by itself: Python >= 3.11, make and a network are enough.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := dagengine orchestrator

.PHONY: run dev test test-sim test-chaos test-heavy test-images images lint bench proto docs manifests clean
.DEFAULT_GOAL := help

help:
	@echo "make run     run the main example on an orchestrator and two engines, print its report"
	@echo "make dev     orchestrator and engines until Ctrl-C"
	@echo "make test    run the tests"
	@echo "make test-sim     live through 10,000 simulated worlds in which everything breaks (SEEDS=first:end)"
	@echo "make test-chaos   kill processes for 200 rounds over each store (ROUNDS=n, SEED=n)"
	@echo "make test-heavy   the tests of whole systems that take longest: make test leaves them out"
	@echo "make images  build the images of the engine and the orchestrator (BASE_IMAGE=, TAG=, PREFIX=)"
	@echo "make test-images  build them on a base made here, and run the main job in containers alone"
	@echo "make lint    ruff, mypy --strict, import-linter"
	@echo "make bench   measure, and print a table"
	@echo "make proto   generate the wire code again (must change nothing)"
	@echo "make manifests  generate the manifests for plain kubectl and the chart's files again (must change nothing)"
	@echo "make docs    generate docs/environment.md, docs/machine.md and deployments/crds again (must change nothing)"

$(VENV)/.ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing dagengine and what it needs into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready scripts/install_dev.py scripts/install_cluster_tools.py
	@echo "installing the tools of development into $(VENV) ..."
	@$(BIN)/python scripts/install_dev.py
	@$(BIN)/python scripts/install_cluster_tools.py
	@touch $@

run: $(VENV)/.ready
	@$(BIN)/python examples/01-weather/run.py

dev: $(VENV)/.ready
	@$(BIN)/dagctl dev

test: $(VENV)/.ready-dev
	@$(BIN)/python -m pytest -n auto --dist loadfile -m "not alone and not docker and not heavy"
	@$(BIN)/python -m pytest -m alone tests/sandbox tests/executors

test-sim: $(VENV)/.ready-dev
	@$(BIN)/python tests/simulation/run.py --seeds $(or $(SEEDS),0:10000) --jobs 2

test-chaos: $(VENV)/.ready-dev
	@CHAOS_ROUNDS=$(or $(ROUNDS),200) CHAOS_SEED=$(SEED) $(BIN)/python -m pytest -q -s -m chaos tests/chaos

images: $(VENV)/.ready
	@$(BIN)/python scripts/build_images.py $(if $(BASE_IMAGE),--base $(BASE_IMAGE)) $(if $(TAG),--tag $(TAG)) \
		$(if $(PREFIX),--prefix $(PREFIX))

test-heavy: $(VENV)/.ready-dev
	@$(BIN)/python -m pytest -n auto --dist load -m heavy tests

test-images: $(VENV)/.ready-dev
	@$(BIN)/python -m pytest -q -m docker tests/images

lint: $(VENV)/.ready-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/generate_wire.py --check

bench: $(VENV)/.ready-dev
	@$(BIN)/python -m benchmarks

proto: $(VENV)/.ready
	@$(BIN)/python scripts/generate_wire.py

docs: $(VENV)/.ready
	@$(BIN)/python scripts/generate_environment.py
	@$(BIN)/python scripts/generate_machine.py
	@$(BIN)/python scripts/generate_crds.py

manifests: $(VENV)/.ready-dev
	@$(BIN)/python scripts/generate_manifests.py

clean:
	rm -rf $(VENV) .venv-proto .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
