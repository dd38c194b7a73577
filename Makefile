# Berm. Every target works from a fresh clone with Go and a C compiler; `deps` says what else a target needs, and installs it
# only as root on Debian or Ubuntu, after printing the list.

export CGO_ENABLED ?= 0
GO      ?= go
SHIM    := internal/backend/local/shimbin/berm-shim.gz
LDFLAGS := -s -w
# gRPC's trace pages would link templates, which call methods by name: the linker would keep every method of every type, 8 MB of them.
TAGS    := grpcnotrace
FUZZ_TIME ?= 10s
SOAK ?= 2m
IMAGE ?= berm:$(subst +,-dirty,$(shell script/version))
ARCHS ?= $(shell $(GO) env GOARCH)
# Tools are built once per version into a cache outside the clone.
TOOLS   = $(shell script/tools path)

.PHONY: build image demo test test-race fuzz generate lint bench scenarios clients crash soak pods kube deps-demo deps-test deps-clients deps-kube clean

build: bin/berm ## bin/berm, with the shim inside

# The shim is small and static: it is the init of every sandbox, so it shares nothing with the server but the wire format.
# The server carries it packed.
$(SHIM): FORCE
	@$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/berm-shim ./cmd/berm-shim
	@gzip -nc bin/berm-shim >$@

bin/berm: $(SHIM) FORCE
	@$(GO) build -trimpath -tags $(TAGS) -ldflags "$(LDFLAGS) -X github.com/bermhq/berm/internal/cli.version=$$(script/version)" -o $@ ./cmd/berm

image: build ## bin/image, an OCI layout of Berm's image named IMAGE, for each of ARCHS
	@script/image bin/image "$(IMAGE)" $(ARCHS)

demo: deps-demo build ## the whole product in a minute
	@test/demo.sh

test: deps-test build ## all tests of the repository's Go code
	$(GO) test -timeout 20m ./...

test-race: deps-test build ## the same under the race detector (needs the C compiler)
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./...

fuzz: deps-test $(SHIM) ## FUZZ_TIME (10s) of each fuzz target, or of those whose package and name match FUZZ
	@FUZZ_TIME=$(FUZZ_TIME) script/fuzz '$(FUZZ)'

scenarios: deps-test build ## the mission's statements, the tutorial, files that are applied, bad input, streams, copies, leases, the audit, terminals and wizards, by curl and the CLI alone
	test/scenarios/mission.sh
	test/scenarios/tutorial.sh
	test/scenarios/policy_tests.sh
	test/scenarios/apply.sh
	test/scenarios/bad_input.sh
	test/scenarios/streams.sh
	test/scenarios/leases.sh
	test/scenarios/execs.sh
	test/scenarios/ports.sh
	test/scenarios/runner.sh
	test/scenarios/servers.sh
	test/scenarios/copy.sh
	test/scenarios/audit.sh
	test/scenarios/bench.sh
	test/scenarios/terminal.sh
	test/scenarios/wizard.sh

clients: deps-clients build ## the published Python client, as it is, against a server
	test/clients/python.sh

soak: deps-test build ## callers that use sandboxes for SOAK (2m) while the server and a runner are killed at random
	BERM=$(CURDIR)/bin/berm BERM_SOAK=$(SOAK) $(GO) test -v -count 1 -timeout 2h -run TestSoak ./test/soak

crash: deps-test build ## kill the server at every failpoint
	test/crash/run.sh

pods: ## submit every golden pod to a real API server, dry run
	test/cluster/dryrun.sh

kube: deps-kube build ## the Kubernetes backend against a real node, runners on two clusters, and the walk-through of docs/kubernetes.md
	test/cluster/kube.sh
	test/cluster/runners.sh
	test/cluster/install.sh

generate: ## everything that is generated: gen/, docs/fields.md, goldens of generated text
	PATH="$(TOOLS):$$PATH" script/generate

lint: $(SHIM)
	PATH="$(TOOLS):$$PATH" script/lint

bench: deps-test build ## every figure of docs/benchmarks.md
	script/bench

deps-demo:
	@script/deps crun disk
deps-clients:
	@script/deps crun disk clients
deps-kube:
	@script/deps cluster node runc postgresql
deps-test:
	@script/deps crun runc runsc disk postgresql python

clean:
	rm -rf bin $(SHIM)

FORCE:
