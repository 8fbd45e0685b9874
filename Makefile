# make run: everything from a fresh machine to the table; make test: install and test; make lint.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test test-processes test-docs test-lowest release site lint benchmark benchmark-peers campaign docs leaderboard verify install clean

$(STAMP): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

install: $(STAMP)

run: install
	$(BIN)/bench run --method popularity --category Synthetic
	$(BIN)/bench run --method hybrid --category Synthetic
	$(BIN)/bench run --method minionerec --category Synthetic
	$(BIN)/bench leaderboard --category Synthetic --stages

# In the order of their names: the files with the longest tests (baselines, campaign, cli, core) come first.
TWO := -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/processes --ignore tests/docs
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO) $(PYTEST)  # a thread each of two

$(VENV)/.engines: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cluster,deepspeed]'
	touch $@

test-processes: $(VENV)/.engines
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/processes  # each test is two processes

$(VENV)/.site: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[site]'
	touch $@

site: $(VENV)/.site
	$(BIN)/python docs/site/assemble.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict -f docs/site/mkdocs.yml
	$(BIN)/codespell --ignore-words docs/site/words.txt README.md CHANGELOG.md CONTRIBUTING.md docs/*.md harness plugins baselines leaderboard/*.py

test-docs: site
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/docs  # the commands of the pages that teach

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: install
	$(BIN)/python -m tests.benchmarks

benchmark-peers: install
	$(BIN)/python -m tests.benchmarks.peers $(BENCHMARK)

SECONDS ?= 1800
campaign: install
	$(BIN)/python -m tests.campaign --seconds $(SECONDS) $(CAMPAIGN)

leaderboard: install
	$(BIN)/bench leaderboard --results leaderboard/results --pages --output leaderboard/LEADERBOARD.md
	$(BIN)/bench leaderboard --results leaderboard/results --output build/leaderboard.html

docs: install
	$(BIN)/python -c "from leaderboard.docs import main; main()" $(DOCS)

release: install
	$(BIN)/python -m tests.release $(RELEASE)

# The lower bounds of pyproject.toml, but for torch: an older one of PyPI downloads gigabytes of CUDA.
test-lowest: install
	$(BIN)/python -m pip install --quiet uv
	mkdir -p build && echo "torch==$$($(BIN)/python -c 'import torch; print(torch.__version__.partition("+")[0])')" > build/torch.txt
	test -d build/lowest || $(PYTHON) -m venv build/lowest
	build/lowest/bin/python -m pip install --quiet -r build/torch.txt  # from where pip has it; uv would fetch another build
	$(BIN)/uv pip install --quiet --python build/lowest/bin/python --resolution lowest-direct --override build/torch.txt -e '.[dev]'
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest $(TWO) $(PYTEST)

verify: install
	$(BIN)/bench results verify
	$(BIN)/bench results verify leaderboard/tokenizers
	$(BIN)/bench results verify leaderboard/rl

clean:
	rm -rf $(VENV) build dist *.egg-info
