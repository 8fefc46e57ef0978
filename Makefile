# make run: the cockpit, or its demo on a machine without GPU and server. make test: the tests.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN = $(VENV)/bin
# Tests mostly wait, for servers, frames and ends: two cores serve three of them. The longest files begin.
PYTEST = $(BIN)/python -m pytest
WORKERS ?= 3
TOGETHER = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# It counts tokens against the clock, and wants the machine to itself.
ALONE = tests/e2e/test_json.py

# Without bytecode each of the tests' thousand processes would compile halotui anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run demo test lint bench screenshots clean

$(VENV)/.run: pyproject.toml constraints.txt tools/venv.sh
	tools/venv.sh $(PYTHON) $(VENV) demo
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt tools/venv.sh
	tools/venv.sh $(PYTHON) $(VENV) dev
	@touch $@ $(VENV)/.run

run: $(VENV)/.run
	@if grep -qs 0x1002 /sys/class/drm/card*/device/vendor || grep -qsx 'llama-server.*' /proc/[0-9]*/comm; \
	then exec $(BIN)/halotui $(ARGS); \
	else echo 'no AMD GPU and no llama-server here: this is the demo' >&2; exec $(BIN)/halotui demo $(ARGS); fi

demo: $(VENV)/.run
	@exec $(BIN)/halotui demo $(ARGS)

test: $(VENV)/.dev
	$(PYTEST) $(TOGETHER) $(if $(ARGS),$(ARGS),--ignore $(ALONE))
	$(if $(ARGS),,$(PYTEST) $(ALONE))

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Wants btop beside it: apt install btop
bench: $(VENV)/.dev
	$(BIN)/python bench/cost.py $(ARGS)
	$(BIN)/python bench/capture.py $(ARGS)
	$(BIN)/python bench/recorder.py
	$(BIN)/python bench/telemetry.py
	$(BIN)/python bench/log.py
	$(BIN)/python bench/fleet.py

# Wants rsvg-convert and fonts for the PNGs: apt install librsvg2-bin fonts-firacode fonts-dejavu-core
screenshots: $(VENV)/.dev
	$(BIN)/python -m halotui.shots $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
