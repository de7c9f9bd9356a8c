# Two commands need nothing before them: 'make demo' and 'make test'. Windows: see README.md for the same with pip.
PYTHON ?= python3
BIN = .venv/bin
# Tests run in so many processes, each on one thread.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

.PHONY: demo test test-lowest test-terratorch test-all docs qgis bench results lint types imports check clean

demo: .venv/.core
	$(BIN)/prithvi demo

test: .venv/.all
	$(PYTEST) -m "not slow"

# The core and the search at the lowest versions they allow; their own deprecation warnings are not ours to mend.
test-lowest:
	test -d .venv-lowest || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --constraint constraints-lowest.txt --editable ".[search,baselines,lora]" \
		pytest pytest-timeout hypothesis jsonschema mgrs pyhdf rustac scikit-image duckdb
	.venv-lowest/bin/python -m pytest -m "not slow" -o filterwarnings=default

# Fine-tunes written by each of these versions of TerraTorch open with each of them, and its tests pass there.
TERRATORCH ?= 1.2.0 1.2.11 1.2.13
OVERLAYS = .venv/terratorch
test-terratorch: .venv/.all
	for version in $(TERRATORCH); do \
		$(BIN)/python -m pip install --quiet --upgrade --no-deps --target $(OVERLAYS)/$$version terratorch==$$version && \
		PYTHONPATH=$(OVERLAYS)/$$version $(BIN)/python -W ignore -m tests.terratorch.layouts $(OVERLAYS)/files/$$version \
		|| exit 1; done
	for version in $(TERRATORCH); do \
		PRITHVI_LAYOUTS=$(OVERLAYS)/files PYTHONPATH=$(OVERLAYS)/$$version $(PYTEST) tests/terratorch || exit 1; done

test-all: .venv/.all
	$(PYTEST)
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=900 notebooks

# dist/prithvi_qgis.zip, for Plugins, Manage and Install Plugins, Install from ZIP.
qgis:
	$(PYTHON) qgis/zip_plugin.py dist

# Measures the list of benchmarks/suite/registry.py and writes docs/benchmarks.md: at two sizes, within 40 minutes on two
# cores; or at four, and accuracy (make results DATA=FOLDER of imagery), hours, which goes on where it was stopped.
PEERS ?= .venv/peers
SUITE = $(BIN)/python -m benchmarks.suite --peers $(PEERS)
bench: .venv/.all $(PEERS)
	$(SUITE)

results: .venv/.all $(PEERS)
	$(SUITE) --results $(if $(DATA),--data $(DATA))

# What we are measured beside and do not depend on, each in a folder of its own. Where one cannot be had, its figures are left out.
$(PEERS): | .venv/.all
	mkdir -p $@
	-$(BIN)/python -m pip install --quiet --no-deps --target $@/terratorch terratorch==1.2.13
	-$(BIN)/python -m pip install --quiet --no-deps --target $@/geoai geoai-py==0.40.1

docs: .venv/.all
	$(BIN)/mkdocs build --strict

lint: .venv/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.all
	$(BIN)/mypy
	$(BIN)/mypy qgis/prithvi_qgis

imports: .venv/.all
	$(BIN)/lint-imports

check: lint types imports

.venv/.core: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable .
	touch $@

.venv/.all: .venv/.core
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[all]"
	touch $@

clean:
	rm -rf .venv demo runs
