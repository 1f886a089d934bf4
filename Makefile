# Every target sets up its own virtual environment with the locked versions first; nothing need be installed by hand.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
SPREAD ?= -n 2 --dist worksteal
MATRIX := test-gymnasium-1.1.1 test-gymnasium-1.2.2 test-gymnasium-1.4.0

.PHONY: demo docs test test-slow test-faults test-gpu gpu-report test-matrix test-faces $(MATRIX) check lint format clean

demo: $(READY)  ## train and evaluate on the embedded data, print the table, write plots into demo/
	$(PY) -m benchmarks.demo

docs: .venv-docs/.ready  ## the documentation site, warnings are errors: docs/_build/html
	OMP_NUM_THREADS=1 .venv-docs/bin/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

test: $(READY)  ## the default test suite
	$(PY) -m pytest $(SPREAD)

test-slow: $(READY)  ## the tests that take minutes
	$(PY) -m pytest $(SPREAD) -m slow -o timeout=900

test-faults: $(READY)  ## write errors, flipped bits, mutated files and kills
	$(PY) -m pytest $(SPREAD) -m faults tests/faults

test-gpu: $(READY)  ## the tests that need a CUDA device
	$(PY) -m pytest -m gpu

gpu-report: $(READY)  ## tests and speed on a CUDA device, in minutes; rows go to benchmarks/results/speed_gpu.csv
	$(PY) -m pytest -m gpu
	$(PY) -m benchmarks.speed gpu

test-matrix: $(MATRIX)  ## the contracts under each Gymnasium

test-faces: .venv-faces/.ready  ## the contracts with other people's training libraries, in an environment of their own
	.venv-faces/bin/python -m pytest $(SPREAD) tests/faces
	.venv-faces/bin/python -m pytest -m faults -k "minari or write_error" tests/faults

check: lint test  ## everything a change must pass

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) .venv-docs docs/_build docs/generated .venv-faces .venv-gymnasium-* demo dist build

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# They need older versions of Gymnasium, pillow and others than the rest.
.venv-faces/.ready: pyproject.toml tests/faces/constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c tests/faces/constraints.txt \
	  -e ".[minari,zoo,torchrl,rllib,ray,d3rlpy]" pytest pytest-timeout pytest-xdist hypothesis polars tensorboard
	touch $@

# The site's own packages in front of those of the main environment.
.venv-docs/.ready: $(READY) docs/constraints.txt
	$(PYTHON) -m venv $(@D)
	echo "import site; site.addsitedir('$$($(PY) -c "import sysconfig; print(sysconfig.get_path('purelib'))")')" \
	  > "$$($(@D)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth"
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --ignore-installed -r docs/constraints.txt
	touch $@

# An environment of its own that sees the main one's packages, with the named Gymnasium in front of them.
.venv-gymnasium-%/.ready: $(READY)
	$(PYTHON) -m venv $(@D)
	$(PY) -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	  > "$$($(@D)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth"
	echo "$(CURDIR)" >> "$$($(@D)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth"
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-installed gymnasium==$*
	touch $@

.PRECIOUS: .venv-gymnasium-%/.ready

$(MATRIX): test-gymnasium-%: .venv-gymnasium-%/.ready
	EXPECT_GYMNASIUM=$* .venv-gymnasium-$*/bin/python -m pytest $(SPREAD) \
	  tests/contracts tests/golden tests/test_env.py tests/test_vector.py tests/test_registry.py
