# Two commands do everything on a fresh machine: `make demo` and `make test`.
VENV := .venv
PYTHON := $(VENV)/bin/python
# Most of the time tests wait for processes of the service, so more than there are cores.
TEST_PROCESSES ?= 4

.PHONY: demo test test-thorough test-tools install check format docs lock clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements.lock scripts/install.sh
	scripts/install.sh $(VENV)
	touch $@

demo: install
	$(PYTHON) scripts/demo.py --output demo

# Hundreds of processes begin with the same modules: whatever the caller's environment says, compile them once.
test: install
	$(MAKE) --jobs=2 --output-sync=target check test-tools
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(TEST_PROCESSES) --no-loadscope-reorder

# Everything at full size: thousands of damaged uploads and manifest lines, more kills, more kernels.
test-thorough:
	DOVETAIL_TEST_THOROUGH=1 $(MAKE) test

test-tools:
	scripts/install_test_tools.sh

check: install
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: install
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# Writes the list of options in docs/cli.md, docs/settings.md, and the values in the Helm chart's README.
docs: install
	$(PYTHON) scripts/cli_docs.py
	$(PYTHON) scripts/settings_docs.py
	$(PYTHON) scripts/helm_docs.py

# Writes requirements.lock from pyproject.toml, in a fresh environment; run it after a change of dependencies.
lock:
	scripts/lock.sh

clean:
	rm -rf $(VENV) demo build dist
