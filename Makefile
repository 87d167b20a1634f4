# drship: build, prove, measure. Every target runs from a fresh clone; `make help` lists them.

GO        ?= go
PREFIX    ?= /usr/local
BIN       := bin
TOOL      := $(GO) tool -modfile=.ci/tools/go.mod

# Of the long targets: how many moments, flaps, seconds a fuzz target; SEED=0 draws one.
N         ?= 200
ROUNDS    ?= $(if $(filter command line environment,$(origin N)),$(N),100)
FLAPS     ?= 1000
SEED      ?= 0
SEEDS     ?= 300
FUZZTIME  ?= 30s
PROTOCOL  ?=

# The bad line of wan-demo, each way (bench/wan).
LINE      ?= rate=100M rtt=50ms loss=1%

# Tools that must be there once deps has run as root; elsewhere what is missing is skipped, with a message.
TOOLS     ?= $(if $(filter 0,$(shell id -u)),required,optional)
PROOFS    := ./bench/sim ./bench/clients ./bench/bounds ./bench/link ./bench/demo ./bench/crash ./bench/compat ./bench/verify ./bench/splitbrain ./bench/several ./bench/hostile ./bench/real ./bench/wan ./bench/wan/tun

.DEFAULT_GOAL := build
.PHONY: help build install demo wan-demo bench-wan test unit proofs lint fmt arrows crash real sim walk soak mutate flaps fuzz bench bench-bytes kernel release reproducible deps clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

build: ## the program, one static binary: bin/drship
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -ldflags '-s -w' -o $(BIN)/drship ./cmd/drship

release: build ## the program, what it is made of (CycloneDX) and checksums: bin/release
	@mkdir -p $(BIN)/release
	cp $(BIN)/drship $(BIN)/release/drship
	$(GO) tool -modfile=.ci/release/go.mod cyclonedx-gomod bin -json -noserial -output $(BIN)/release/drship.cdx.json $(BIN)/release/drship
	cd $(BIN)/release && sha256sum drship drship.cdx.json >SHA256SUMS

reproducible: ## two builds in two places give the same bytes
	.ci/release/reproduce

install: build ## into PREFIX (default /usr/local), DRBD's names in PREFIX/lib/drship/drbd so that they shadow nothing
	install -D -m 0755 $(BIN)/drship $(DESTDIR)$(PREFIX)/sbin/drship
	install -d $(DESTDIR)$(PREFIX)/lib/drship/drbd
	for name in drbdadm drbdsetup drbdmeta drbd-overview; do \
		ln -sf ../../../sbin/drship $(DESTDIR)$(PREFIX)/lib/drship/drbd/$$name; done

demo: build ## the main job on loopback, told in a table [IN=path] [KEEP=1] [PROTOCOL=A]
	@$(GO) run ./bench/demo -binary $(BIN)/drship -in '$(IN)' -keep '$(KEEP)' -protocol '$(or $(PROTOCOL),A)'

wan-demo: build ## the main job over a bad line, as root [LINE='rate=100M rtt=50ms loss=1%'] [IN=path] [PROTOCOL=A]
	@$(GO) run ./bench/demo -binary $(BIN)/drship -in '$(IN)' -line '$(LINE)' -protocol '$(or $(PROTOCOL),A)'

test: deps lint unit proofs ## everything that proves it, in its short form

unit: ## unit tests with the race detector
	CGO_ENABLED=1 $(GO) test -race -short -timeout 15m ./...

# One package at a time: real daemons want the machine to themselves.
proofs: build ## real daemons: the demo, clients, crashes, link, bounds
	DRSHIP_BIN=$(CURDIR)/$(BIN)/drship DRSHIP_TOOLS=$(TOOLS) $(GO) test -p 1 -count=1 -timeout 20m $(PROOFS)

crash: build ## kill -9 at N random moments (200) [SEED=] [PROTOCOL=]
	$(GO) run ./bench/crash -binary $(BIN)/drship -n $(N) -seed $(SEED) -protocol '$(PROTOCOL)'

sim: ## whole pairs and threes in virtual time, SEEDS of them (300), and the states met [SEED=]
	@mkdir -p $(BIN) && rm -f $(BIN)/sim.states
	$(GO) test -count=1 -timeout 240h -run '^Test(Simulation|ThreeNodes)$$' ./bench/sim -seeds $(SEEDS) -seed $(SEED) -shrink 60 -states $(CURDIR)/$(BIN)/sim.states
	@cat $(BIN)/sim.states

real: build ## PostgreSQL on a pair whose machines lose power, and worse, N rounds (100), as root [SEED=] [PROTOCOL=] [FAULT=]
	$(GO) run ./bench/real -binary $(BIN)/drship -n $(ROUNDS) -seed $(SEED) -protocol '$(PROTOCOL)' -fault '$(FAULT)'

soak: ## sim with 50,000 seeds, real with 100 rounds: days
	$(MAKE) real ROUNDS=100
	$(MAKE) sim SEEDS=50000

mutate: ## how many seeds it takes to catch each of a list of planted defects: docs/reliability.md
	$(GO) run ./bench/mutate -report docs/reliability.md

walk: ## random walks over verbs, crashes, cuts and failing disks in virtual time, WALKS of them (60), and the states met [SEED=]
	$(GO) test -count=1 -timeout 2h -v -run '^TestWalk$$' ./bench/sim -walks $(or $(WALKS),60) -seed $(or $(SEED),1)

flaps: build ## cut and heal the link FLAPS times (1000)
	DRSHIP_BIN=$(CURDIR)/$(BIN)/drship $(GO) test -count=1 -timeout 2h -v -run '^TestFlaps$$' ./bench/link -flaps $(FLAPS)

fuzz: ## every fuzz target for FUZZTIME (30s)
	.ci/fuzz $(FUZZTIME)

bench: build ## rates and latencies beside nbdkit and qemu-storage-daemon, and over a bad line (fio needed)
	$(GO) run ./bench/compare -binary $(BIN)/drship

bench-wan: build ## goodput, recovery and lag over bad lines beside TCP and QUIC, into bench/report.md, as root [ARGS='-cells …', see go run ./bench/wan bench -h]
	@$(GO) run ./bench/wan bench -binary $(BIN)/drship -report bench/report.md $(ARGS)

kernel: ## drship device under a Debian kernel with its nbd module, in qemu (qemu-system-x86, busybox-static, cpio needed)
	bench/kernel/run

bench-bytes: build ## bytes on the wire for recorded writes (pgbench, packages, a source tree, noise), beside zstd; TRACES=DIR keeps the traces
	$(GO) run ./bench/bytes -binary $(BIN)/drship -dir '$(TRACES)'

deps: ## the Debian packages that the tests use, if root
	@.ci/deps

lint: fmt arrows ## formatting, vet, staticcheck, the arrows between packages
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

fmt:
	@bad=$$(gofmt -l .); if [ -n "$$bad" ]; then echo "not gofmt-ed:"; echo "$$bad"; exit 1; fi

arrows: ## no import runs up (docs/architecture.md)
	@mkdir -p $(BIN)/lint && sed 's#ROOT#$(CURDIR)#g' .ci/depguard.json > $(BIN)/lint/depguard.json
	@cd $(BIN)/lint && $$($(GO) tool -modfile=$(CURDIR)/.ci/tools/go.mod -n depguard) drship/...

clean: ## what was built here
	rm -rf $(BIN)
