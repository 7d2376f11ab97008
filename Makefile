# What a developer runs, and what .ci/run runs. BIN is where the tools are: make check BIN=.venv/bin/
BIN ?=

.PHONY: check lint test kills network walk fuzz crowds races faults faults-quick cuts stall soak doctor bench bench-quick docs

check: lint test

lint:
	$(BIN)ruff check
	$(BIN)mypy
	@if command -v $(firstword $(CC)) >/dev/null; then set -x; \
	$(CC) $(ANALYZER) -std=gnu11 -O2 -Wall -Wextra -Wconversion -Werror -c -o /dev/null ftx/disk/many.c; \
	else echo "ftx/disk/many.c is not checked: there is no C compiler ($(CC))"; fi

# gcc has one, clang has not.
ANALYZER = $(shell $(CC) -fanalyzer -E -x c /dev/null >/dev/null 2>&1 && echo -fanalyzer)

test:
	$(BIN)pytest -q

# The generated parts of docs/: options, exit codes, events, settings, module lists, state diagrams.
docs:
	$(BIN)python docs/generate.py

# Kills either side of a transfer at SEEDS moments each, and runs the same command again; a few are part of `test`.
# Then stops and interrupts them for as long, and as often.
SEEDS ?= 20
kills:
	KILL_SEEDS=$(SEEDS) $(BIN)pytest -q -n 2 tests/integration/test_kills.py
	HALF_DEAD=5 $(BIN)pytest -q -n 2 tests/integration/test_half_dead.py
	PAIRING_RACES=$(SEEDS) $(BIN)pytest -q -n 0 tests/integration/test_pairing.py -k races
	STOPPED_SECONDS=60 INTERRUPTIONS=$(SEEDS) $(BIN)pytest -q --timeout=600 tests/integration/test_processes.py

# Hosts of their own on one bridge, and what takes long there: a peer whose address goes away unannounced.
network:
	SLOW_NETWORK=1 $(BIN)pytest -q -n 0 tests/integration/test_network.py

# Sends a home folder with everything odd in it, cut ten times, edited, sent again and pulled back, as root and as an
# ordinary user, for WALKS seeds; a smaller one is part of `test`.
WALKS ?= 5
walk:
	WALK_SEEDS=$(WALKS) WALK_FILES=1000 WALK_CUTS=10 $(BIN)pytest -q -n 2 --timeout=600 \
		tests/integration/test_there_and_back.py

# Every parser, driven by coverage for SECONDS each; keeps what reaches something new in tests/fuzz/corpus. Needs
# `pip install -e '.[fuzz]'` and says so; the same parsers get random and damaged input in `test`, without it.
SECONDS ?= 60
fuzz:
	$(BIN)python tests/fuzz/run.py --seconds $(SECONDS)

# A hostile process exchanges folders and links under each kind of operation, RACE_SECONDS each; short in `test`. There
# are 28 kinds; RACERS of them run at once, and PART=1/4 runs a quarter of them. Prints how often
# something was exchanged.
RACE_SECONDS ?= 60
RACERS ?= $(shell nproc)
PART ?= 1/1
races:
	RACE_SECONDS=$(RACE_SECONDS) RACE_PART=$(PART) $(BIN)pytest -q -n $(RACERS) \
		--timeout=$$(($(RACE_SECONDS) + 120)) tests/disk/test_races.py

# The doctor on every broken set-up, between two hosts in network namespaces; a part of it is in `test`.
doctor:
	DOCTOR=all $(BIN)pytest -q -n 0 --timeout 300 tests/integration/test_doctor.py

# Crowds at the door: 2,000 strangers at once during a transfer, 10,000 connections one after the other,
# 1,000 slow jobs beside a fast one, 100,000 tiny files; a smaller run is part of `test`. Prints what a connection
# costs and what it leaves behind.
crowds:
	CROWD_STRANGERS=1000 CROWD_CYCLES=10000 CROWD_WARM_UP=2000 CROWD_SLOW=1000 CROWD_TINY=100000 \
		$(BIN)pytest -q -n 0 -s --timeout 900 tests/integration/test_crowds.py

# The fault lab, all of it: kills, errors, disks that end, links that fail, then power cuts and a disk that stalls, with
# the evidence in REPORT: a line for each point. What is there for this commit already is not run again, so it can be
# run in pieces: PART=1/4; PIECE=600 for ten minutes, three quarters of them for the first four; KINDS="--kind kill"
# for some of these four, and nothing else. What is broken ends nothing, but the whole does not end well then. At last
# the summary of it, from which docs/faults.md is made. An hour of all that mixed is a target of its own, `make soak`.
REPORT ?= $(CURDIR)/faults.jsonl
KINDS ?=
STALLING = STALL_SECONDS=35 $(BIN)pytest -q -n 0 -s tests/faults/test_stall.py
LAB_PYTHON = $(if $(BIN),$(abspath $(BIN))/)python
faults:
	@cd tests && bad=0; \
	set -x; $(LAB_PYTHON) -m faults.run --report $(REPORT) --part $(PART) $(KINDS) $(if $(PIECE),--seconds $$(($(PIECE) * 3 / 4))) || bad=1; \
	$(if $(KINDS),,$(LAB_PYTHON) -m faults.cuts --subsets $(SUBSETS) --report $(REPORT) --part $(PART) $(if $(PIECE),--seconds $$(($(PIECE) / 4))) || bad=1;) \
	$(if $(KINDS),,$(if $(filter 1/%,$(PART)),(cd .. && $(STALLING)) || bad=1;)) \
	$(LAB_PYTHON) -m faults.report $(REPORT) && exit $$bad

# A sample of it, drawn by SEED; a part of `test`.
SEED ?= 1
faults-quick:
	FAULT_SECONDS=$(SECONDS) FAULT_SEED=$(SEED) $(BIN)pytest -q -n 0 --timeout=600 tests/faults/test_sample.py

# Power cuts: every state that a power failure could have left of a recorded run, and as many out of order; as root. A
# part of `faults`, with the same REPORT and PART.
SUBSETS ?= 1
cuts:
	cd tests && $(LAB_PYTHON) -m faults.cuts --subsets $(SUBSETS) --report $(REPORT) --part $(PART)

# A disk that stalls for 35 s while files arrive: what waits, and what must not; as root. A part of `faults`; short in
# `test`.
stall:
	$(STALLING)

# Mixed jobs with random faults between real processes for SOAK seconds, as root: writes docs/soak.md.
SOAK ?= 3600
soak:
	unshare -m nice -n 19 $(BIN)python -u tests/faults/soak.py --seconds $(SOAK) --report docs/soak.md

# ftx beside whichever peers are installed; tables and pictures are written over. Interrupted, it goes on behind the
# last goal that it finished. PEERS is a folder with further programs of peers. See benchmarks/README.md.
PEERS ?=
bench:
	$(BIN)python -m benchmarks --json docs/benchmarks.json --page docs/performance.md $(if $(PEERS),--peers $(PEERS))

# Whether the runner works: little of every goal, once; some of them are part of `test`.
bench-quick:
	BENCH_ALL=1 $(BIN)pytest -q -n 0 --timeout=400 tests/test_benchmarks.py
