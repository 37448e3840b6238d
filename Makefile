.DEFAULT_GOAL := help
.PHONY: reference help install demo test test-all attack check format bench bench-attribution bench-quality bench-frontier bench-peers bench-refinement bench-chain results docs clean
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: $(STAMP)  ## .venv with all that the tests and benchmarks need

$(STAMP): pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)  ## the main job on generated images; ends with the path of report.html
	$(BIN)/advcam demo --out runs/demo

test: $(STAMP)  ## the tests, but for the slow ones
	$(PYTEST) -m 'not slow'

test-all: $(STAMP)  ## all tests, with the demo and the photographs
	$(PYTEST)

attack: $(STAMP)  ## the attacks at length: 500 kills, 2,586 edits of records, some 270,000 spoilt files and calls
	ATTACK_KILLS=500 ATTACK_EDITS=300 ATTACK_EXAMPLES=4000 $(BIN)/pytest tests/attack

check: $(STAMP)  ## format, lint, types, import contracts, docstrings, docs/options.md, docs/reference
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/docstrings.py
	$(BIN)/python tools/reference.py --check
	$(BIN)/python tools/python_reference.py --check
	$(BIN)/python tools/help.py --check

reference: $(STAMP)  ## docs/options.md and docs/reference/, every option and every public Python name
	$(BIN)/python tools/reference.py
	$(BIN)/python tools/python_reference.py
	$(BIN)/python tools/help.py

format: $(STAMP)  ## put the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## the benchmark on ../shared/photos, about an hour; benchmarks/photographs.md records it
	benchmarks/photographs.sh

bench-attribution: $(STAMP)  ## maps and climbs beside other libraries, 20 minutes; benchmarks/attribution.md records it
	$(BIN)/python benchmarks/attribution.py

bench-refinement: $(STAMP)  ## CRF, walk, and ways to masks on generated scenes; benchmarks/refinement.md records it
	benchmarks/refinement.sh

bench-chain: $(STAMP)  ## masks by every way and networks on photographs, two hours; `make results` records it
	benchmarks/chain.sh photos

bench-quality: $(STAMP)  ## maps of 2 networks on 5 data sets of ../shared, hours; benchmarks/quality.md records it
	$(BIN)/python -m benchmarks.quality

bench-frontier: $(STAMP)  ## quality against seconds, every setting beside the published loop; benchmarks/frontier.md records it
	$(BIN)/python -m benchmarks.frontier

bench-peers: $(STAMP)  ## maps of other libraries: seconds, memory, mIoU; benchmarks/frontier.md records it
	$(BIN)/python -m benchmarks.peers

results: $(STAMP)  ## benchmarks/README.md and the README's table, from what the benchmarks kept
	$(BIN)/python -m benchmarks.results

docs: $(STAMP)  ## the documentation, as pages in site/; search works behind `python3 -m http.server -d site`
	$(BIN)/zensical build --clean

clean:  ## remove .venv and what tests leave
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
