# The environment of every target is .venv (plain pip, pinned by constraints.txt).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench clean
.DEFAULT_GOAL := test

$(BIN)/refeval: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $(BIN)/refeval

# torch first and alone, by its pin: pip then takes the build that fits the machine (docs/install.md).
$(VENV)/.dev: $(BIN)/refeval
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,train,score,figures]'
	@touch $(VENV)/.dev

# What parity tests compare with. Only their child processes see the folder: in the environment itself insightface would
# bring a second OpenCV, and torchvision breaks transformers beside a torch for the CPU. What these packages need besides
# is in the environment, so none brings its dependencies.
PARITY := insightface lazy_loader open_clip_torch scikit-image torchvision
$(VENV)/.parity: $(VENV)/.dev
	rm -rf $(VENV)/parity
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --no-compile \
		--target $(VENV)/parity $(PARITY)
	@touch $(VENV)/.parity

demo: $(BIN)/refeval  ## render, score and report the built-in suite
	$(BIN)/refeval run --model copy-paste --suite sprites --out runs/demo

test: $(VENV)/.parity  ## every test
	$(BIN)/python -m pytest -n 2 --benchmark-disable

lint: $(VENV)/.dev  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict -p refeval

bench: $(VENV)/.dev  ## our procedure against the official one, interleaved
	$(BIN)/python -m pytest benchmarks -p no:xdist -s

clean:
	rm -rf $(VENV) build *.egg-info
