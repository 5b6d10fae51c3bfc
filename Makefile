# `make demo` and `make test` need nothing but Python >= 3.11: each sets up .venv by itself, once.

PYTHON ?= python3

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test lint format type unit slow quantus docs cli-check clean FORCE

help:
	@echo "make demo       explain a demo picture, write the panel to demo-output/"
	@echo "make test       all checks: lint, types, unit tests with coverage, the command line"
	@echo "make lint       ruff's rules and format          make type       mypy --strict"
	@echo "make unit       the quick tests, with coverage   make slow       the slow tests"
	@echo "make docs       the pages, built strictly        make cli-check  the command line, end to end"
	@echo "make format     let ruff rewrite the files       make quantus    beside Quantus's metrics, in .venv-quantus"
	@echo "make clean      remove caches and results, keep the environments"

# ---------------------------------------------------------------- set-up

# The environment that this make sets up: `make quantus` has a make of its own for .venv-quantus.
override VENV := $(if $(filter .venv-quantus/%,$(MAKECMDGOALS)),.venv-quantus,.venv)

# A peer in tests. What it depends on is large (bitsandbytes, open_clip, accelerate), and the parts compared need none of it.
LXT := lxt==2.1

# A stamp counts while its environment runs, was finished, and lies where it was made.
VENV_RUNS := $(VENV)/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
VENV_PLACE := $(shell test ! -e $(VENV)/.incomplete && $(VENV_RUNS) && cat $(VENV)/.place 2>/dev/null)
ifneq ($(VENV_PLACE),$(CURDIR))
STALE := FORCE
endif

# .incomplete stands while files are being written: an environment cut off there is made anew.
# In a working one, the dry run first makes sure that a missing network leaves it as it is.
$(VENV)/.installed-%: pyproject.toml $(STALE)
	@set -eu; \
	install="-m pip install --disable-pip-version-check --no-input"; \
	if [ ! -e $(VENV)/.incomplete ] && $(VENV_RUNS); then \
		echo "Updating $(VENV) from pyproject.toml"; \
		install="$$install --quiet"; \
		$(VENV)/bin/python $$install --dry-run --editable '.[$*]'; \
		touch $(VENV)/.incomplete; \
	else \
		command -v "$(PYTHON)" >/dev/null 2>&1 || { \
			echo "Visavis needs Python 3.11 or newer, but '$(PYTHON)' was not found: install it, or name one with 'make PYTHON=/path/to/python'." >&2; \
			exit 1; \
		}; \
		"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
			echo "Visavis needs Python 3.11 or newer, but '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1): name a newer one with 'make PYTHON=python3.12'." >&2; \
			exit 1; \
		}; \
		echo "Setting up $(VENV), once: PyTorch is large, so this takes some minutes"; \
		mkdir -p $(VENV); \
		touch $(VENV)/.incomplete; \
		find $(VENV)/ -mindepth 1 ! -name .incomplete -delete; \
		"$(PYTHON)" -m venv $(VENV); \
	fi; \
	rm -f $(VENV)/.installed-*; \
	$(VENV)/bin/python $$install --editable '.[$*]'; \
	$(if $(filter dev,$*),$(VENV)/bin/python $$install --no-deps '$(LXT)';) \
	printf '%s\n' "$(CURDIR)" > $(VENV)/.place; \
	rm $(VENV)/.incomplete; \
	touch $(if $(filter dev,$*),$(VENV)/.installed-demo) $@

# ---------------------------------------------------------------- demo

demo: .venv/.installed-demo
	.venv/bin/visavis demo --output demo-output

# ---------------------------------------------------------------- checks

test: lint type unit docs cli-check
	@echo "make test: all checks passed"

lint: .venv/.installed-dev
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check

format: .venv/.installed-dev
	.venv/bin/python -m ruff check --fix
	.venv/bin/python -m ruff format

type: .venv/.installed-dev
	.venv/bin/python -m mypy --strict src

unit: .venv/.installed-dev
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not slow" -n 2 \
		--cov=visavis --cov-report=term-missing:skip-covered

slow: .venv/.installed-dev
	VISAVIS_UNCHECKED=1 OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m slow -n 2 --dist worksteal

# Quantus 0.6 calls np.trapz, which numpy 2.4 has no more; with numpy 2.3 and torch 2.15 on Python 3.11 it works.
quantus:
	@$(MAKE) --no-print-directory .venv-quantus/.installed-quantus-dev
	OMP_NUM_THREADS=1 .venv-quantus/bin/python -m pytest -n 2 \
		tests/evaluation/test_against_quantus.py tests/evaluation/test_quantus_adapter.py

docs: .venv/.installed-dev
	.venv/bin/python -m mkdocs --quiet build --strict

cli-check: .venv/.installed-dev
	bash tests/end_to_end.sh .venv/bin/visavis

clean:
	rm -rf demo-output site build dist .coverage .coverage.* htmlcov coverage.xml
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +
