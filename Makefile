# Everything a user does, in one word each. `make demo` first.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help demo repro dev serve test test-slow test-roads test-parts lint types lock venv clean

help:  ## List what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(VENV)/.installed  ## Make .venv from the locks

# uv is among the locked packages, so that the environment can mend itself later.
$(VENV)/.installed: requirements.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	@test -x $(VENV)/bin/uv || { $(PYTHON) -m venv --clear $(VENV) && $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv; }
	VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip sync --require-hashes requirements-dev.lock
	VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet --no-deps --editable .
	@touch $@

demo: venv  ## Take the synthetic tile line the whole road, to a bento
	$(VENV)/bin/defect-assets demo

repro: venv  ## Take the deliveries in the inbox the whole road
	$(VENV)/bin/defect-assets repro

dev: venv  ## Open Dagster's UI
	$(VENV)/bin/defect-assets dev

serve: venv  ## Serve what is in production, or else the newest release
	$(VENV)/bin/defect-assets serve

test: venv  ## Run the tests that take minutes at most
	$(VENV)/bin/pytest -m "not slow and not soak"

test-slow: test-roads test-parts  ## Run the tests that take longer, too; make -j2 takes half the time

test-roads: venv
	$(VENV)/bin/pytest -m "not soak" --durations=30 tests/end_to_end

test-parts: venv
	$(VENV)/bin/pytest -m "not soak" --durations=30 --ignore=tests/end_to_end

lint: venv  ## Check style and floors
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

types: venv  ## Check types
	$(VENV)/bin/mypy

# Each lock is a subset of the one before, so that tests, training and service agree.
COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock'
lock:  ## Write the locks anew, newest versions
	$(COMPILE) --upgrade pyproject.toml -o requirements.lock
	$(COMPILE) --upgrade pyproject.toml --extra ray -c requirements.lock -o requirements-ray.lock
	$(COMPILE) --upgrade pyproject.toml --extra ray --group dev -c requirements-ray.lock -o requirements-dev.lock
	$(COMPILE) --upgrade bento/requirements-cuda.in -c requirements.lock -o bento/requirements-cuda.lock
	$(COMPILE) --upgrade bento/requirements-cpu.in -c bento/requirements-cuda.lock -o bento/requirements-cpu.lock

clean:  ## Remove the environment; the home stays
	rm -rf $(VENV)
