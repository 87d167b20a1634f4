# drship: build, prove, measure. Every target runs from a fresh clone; `make help` lists them.

GO        ?= go
PREFIX    ?= /usr/local
BIN       := bin
TOOL      := $(GO) tool -modfile=.ci/tools/go.mod
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS   := -s -w -X main.version=$(VERSION)

# Of the long targets: how many moments, flaps, seconds a fuzz target; SEED=0 draws one.
N         ?= 200
FLAPS     ?= 1000
SEED      ?= 0
FUZZTIME  ?= 30s
PROTOCOL  ?=

.DEFAULT_GOAL := build
.PHONY: help build install demo test unit proofs lint fmt arrows clients crash flaps fuzz bench deps clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

build: ## the program, one static binary: bin/drship
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/drship ./cmd/drship

install: build ## into PREFIX (default /usr/local), DRBD's names in PREFIX/lib/drship/drbd so that they shadow nothing
	install -D -m 0755 $(BIN)/drship $(DESTDIR)$(PREFIX)/sbin/drship
	install -d $(DESTDIR)$(PREFIX)/lib/drship/drbd
	for name in drbdadm drbdsetup drbdmeta drbd-overview; do \
		ln -sf ../../../sbin/drship $(DESTDIR)$(PREFIX)/lib/drship/drbd/$$name; done

demo: build ## the main job on loopback: sync, write, kill, promote, compare, catch up [IN=path] [KEEP=1] [PROTOCOL=A|B|C]
	@$(GO) run ./bench/demo -binary $(BIN)/drship -in '$(IN)' -keep '$(KEEP)' -protocol '$(or $(PROTOCOL),A)'

test: deps lint unit proofs ## everything that proves it, in its short form

unit: ## unit tests with the race detector
	CGO_ENABLED=1 $(GO) test -race -short -timeout 15m $$($(GO) list ./... | grep -v '^drship/bench/proof')

proofs: ## real daemons: clients, crashes, link, bounds
	DRSHIP_PROOF=1 $(GO) test -count=1 -timeout 25m -v ./bench/proof/... | grep -v -e '^=== ' -e '^    --- PASS'

lint: fmt arrows ## formatting, vet, staticcheck, the arrows between packages
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

fmt:
	@bad=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); if [ -n "$$bad" ]; then echo "not gofmt-ed:"; echo "$$bad"; exit 1; fi

arrows: ## no import runs up (docs/architecture.md)
	@mkdir -p $(BIN)/lint && sed 's#ROOT#$(CURDIR)#g' .ci/depguard.json > $(BIN)/lint/depguard.json
	@$(TOOL) -n depguard >/dev/null
	cd $(BIN)/lint && $$($(GO) tool -modfile=$(CURDIR)/.ci/tools/go.mod -n depguard) drship/...

clean: ## what was built here
	rm -rf $(BIN)
