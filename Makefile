# Two commands need nothing before them: 'make demo' and 'make test'. Windows: see README.md for the same with pip.
PYTHON ?= python3
BIN = .venv/bin
# Tests run in so many processes, each on one thread: one more than two cores, as some wait for servers and other programs.
WORKERS ?= 3
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)
# Hundreds of those processes import the package: each would compile all of it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all matrix soak wheel sbom docs qgis bench results lint types imports check clean

demo: .venv/.core
	$(BIN)/prithvi demo

test: .venv/.all
	@echo "Tests are collected first, which takes half a minute."
	$(PYTEST) -m "not slow"

# Environments of other versions, a cell at a time, which a later call does not repeat: make matrix CELLS="core lowest".
CELLS ?=
matrix:
	$(PYTHON) tools/matrix.py run $(CELLS)

# Thirty minutes of maps, fills, embeddings and requests to a service in one process: memory, handles, threads, results.
MINUTES ?= 30
soak: .venv/.all
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

test-all: .venv/.all
	$(PYTEST)
	$(BIN)/python -m pytest -p nbmake.pytest_plugin --nbmake --nbmake-timeout=900 notebooks

# dist/prithvi_qgis.zip, for Plugins, Manage and Install Plugins, Install from ZIP.
qgis:
	$(PYTHON) qgis/zip_plugin.py dist

# dist/prithvi-VERSION-py3-none-any.whl, with the configurations, the catalog with its samples, and the weights.
wheel:
	$(PYTHON) -m pip wheel --no-deps --wheel-dir dist .

# dist/prithvi.cdx.json: what is installed in .venv, as a CycloneDX bill of materials that was validated.
sbom: .venv/.core
	test -d .venv-sbom || $(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/python -m pip install --quiet "cyclonedx-bom==7.5.0"
	mkdir -p dist
	.venv-sbom/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --mc-type library \
		--output-reproducible --validate --of JSON -o dist/prithvi.cdx.json

# Measures the list of benchmarks/suite/registry.yaml and writes docs/benchmarks.md: at two sizes, within 40 minutes on two
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
	rm -rf .venv .venv-sbom demo runs
