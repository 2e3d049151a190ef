# Two commands do everything on a fresh machine: `make demo` and `make test`.
VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
# Tests wait for processes of the service, so more than there are cores.
TEST_PROCESSES ?= 6
# Memory of tensors is kept for the next ones: fetching it from the kernel each time takes a tenth of the time.
STEADY_MEMORY := MALLOC_MMAP_THRESHOLD_=268435456 MALLOC_TRIM_THRESHOLD_=536870912
PYTEST = $(STEADY_MEMORY) OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest
# By themselves: a browser drops what it was loading whenever Docker makes or removes a network.
CONTAINERS := tests/deploy/containers
# Hundreds of processes begin with the same modules: whatever the caller's environment says, compile them once.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-thorough test-tools own-programs compiled-tests images base-images install check format docs lock clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements.lock scripts/install.sh | $(VENV_PYTHON)
	scripts/install.sh $(VENV)
	touch $@

$(VENV_PYTHON):
	scripts/create_environment.sh $(VENV)

demo: install
	$(VENV_PYTHON) scripts/demo.py --output demo

# Programs of tests are fetched while the environment is, and test files compiled while types are checked. With
# DOVETAIL_REQUIRE_DOCKER=1 images are built too, where a Docker daemon answers (scripts/start_docker.sh starts one).
test:
	$(MAKE) --jobs=4 --output-sync=target check own-programs compiled-tests $(if $(filter 1,$(DOVETAIL_REQUIRE_DOCKER)),images)
	$(PYTEST) --processes $(TEST_PROCESSES) --ignore $(CONTAINERS)
	$(PYTEST) $(CONTAINERS)

# Everything at full size: thousands of damaged uploads and manifest lines, more kills, more kernels.
test-thorough:
	DOVETAIL_TEST_THOROUGH=1 $(MAKE) test

test-tools:
	scripts/install_test_tools.sh

# Into the environment. After the others, since some are Debian's as well, and apt lets one in at a time.
own-programs: install test-tools
	scripts/install_helm.sh || echo "missing for tests of the chart: Helm" >&2
	scripts/install_prometheus.sh || echo "missing for tests of alerts and dashboard: Prometheus" >&2
	scripts/install_linters.sh || echo "missing for tests of scripts, images and YAML: linters" >&2

# While types are checked and programs fetched one core is idle. What is wrong in them is for pytest to say.
compiled-tests: install
	-$(VENV_PYTHON) -m pytest --collect-only --quiet >/dev/null 2>&1

# What tests of containers start. Built while the environment is, of which it asks pip's configuration alone.
images: base-images | $(VENV_PYTHON)
	$(VENV_PYTHON) scripts/build_images.py api worker all

# Debian's packages stand in for a registry's images that are not there.
base-images:
	scripts/stand_in_images.sh
	scripts/install_compose.sh

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
	$(VENV_PYTHON) scripts/cli_docs.py
	$(VENV_PYTHON) scripts/settings_docs.py
	$(VENV_PYTHON) scripts/helm_docs.py

# Writes requirements.lock from pyproject.toml, in a fresh environment; run it after a change of dependencies.
lock:
	scripts/lock.sh

clean:
	rm -rf $(VENV) demo build dist
