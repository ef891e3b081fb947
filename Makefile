# Bulkhead. `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail
GO ?= go
export CGO_ENABLED := 0
BUILD := $(GO) build -trimpath -ldflags '-s -w -buildid='
MODULE := github.com/bulkheadhq/bulkhead
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CHILDREN := internal/children/bin
TOOLS := bin/tools
GOFUMPT := $(TOOLS)/gofumpt
STATICCHECK := $(TOOLS)/staticcheck
GOSEC := $(TOOLS)/gosec
GO_FILES := $(shell git ls-files '*.go' go.mod go.sum 2>/dev/null)

.PHONY: help build children run test test-quick crash races suites corpus compare check bench bench-parts fuzz generate clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: children ## build bin/bulkhead, with worker and sandbox inside
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '-s -w -buildid= -X $(MODULE)/internal/cli.described=$(VERSION)' -o bin/bulkhead ./cmd/bulkhead

children: ## build the two small executables that are embedded
	@mkdir -p $(CHILDREN)
	$(BUILD) -o $(CHILDREN)/bulkhead-worker ./cmd/bulkhead-worker
	$(BUILD) -o $(CHILDREN)/bulkhead-sandbox ./cmd/bulkhead-sandbox

run: build ## build everything and start a platform with a sample, and something to try
	@./bin/bulkhead up --sample

test: children ## all tests (they start what they need)
	$(GO) test -timeout 30m -shuffle=on ./...

test-quick: children ## the shorter tests: a minute or more
	$(GO) test -short ./...

crash: children ## kill roles, workers and sandboxes 300 times each on SQLite and PostgreSQL, and judge
	BULKHEAD_STORM_KILLS=300 $(GO) test -count=1 -v -timeout 30m -run '^TestStorm' ./internal/suite

races: children ## refresh 1,000 connections at a rotating provider while nodes, servers and the vault are killed
	$(GO) test -count=1 -v -timeout 5m -run '^TestTokenRace' ./internal/suite/tokens -connections 1000 -for 25s -life 8s
	BULKHEAD_RENEWAL_KILLS=24 $(GO) test -count=1 -v -timeout 10m -run '^TestKilledRenewals' ./internal/suite

suites: children ## the security suites, with what each tried and found
	./script/suites

corpus: ## import 2,639 public API descriptions and call every operation: three numbers (fetches the corpus once)
	./script/corpus

compare: ## lay the catalogue beside the vendors' own API descriptions (CONNECTOR=name, DOCUMENT=file; fetches the corpus once)
	./script/corpus compare

check: tools children ## formatting, vet, staticcheck, gosec, generated files
	./script/check

bench: build ## measure from end to end for some minutes (BENCH=short: one); figures are kept in doc/benchmarks.md
	$(BUILD) -o bin/bulkhead-bench ./cmd/bulkhead-bench
	./bin/bulkhead-bench $(if $(filter short,$(BENCH)),-short,-repeat 2 -postgres) -binary bin/bulkhead -json bin/bench.json -compare doc/benchmarks.json

bench-parts: build ## measure single parts
	$(GO) test -run '^$$' -bench . -benchtime 1s ./internal/...

fuzz: children ## fuzz every parser of outside bytes for 20 s each
	./script/fuzz 20s

generate: build ## regenerate documents that the binary prints
	$(GO) generate ./...

clean: ## remove what was built
	rm -rf bin $(CHILDREN)/bulkhead-*

.PHONY: tools
tools: $(GOFUMPT) $(STATICCHECK) $(GOSEC)

# Tools are built once into bin/tools, at pinned versions, outside of go.mod.
$(GOFUMPT):
	@mkdir -p $(TOOLS)
	GOBIN=$(abspath $(TOOLS)) $(GO) install mvdan.cc/gofumpt@v0.10.0
$(STATICCHECK):
	@mkdir -p $(TOOLS)
	GOBIN=$(abspath $(TOOLS)) $(GO) install honnef.co/go/tools/cmd/staticcheck@v0.8.1
$(GOSEC):
	@mkdir -p $(TOOLS)
	GOBIN=$(abspath $(TOOLS)) $(GO) install github.com/securego/gosec/v2/cmd/gosec@v2.29.0
