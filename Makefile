# make help tells what there is. Everything works from a clean checkout on a
# Debian 12 machine with Go; what else is needed is installed by `make deps`.

SHELL      := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN        := bin/metalrise
GO         ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Where the lab's node image and the real Ignition program are kept between runs.
export METALRISE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/metalrise

MACHINE ?= container
SERVERS ?= 5
LAB     ?= demo

# What the lab and the tests need beyond Go; see docs/lab.md for what each is for.
PACKAGES := \
	qemu-system-x86 qemu-utils ovmf \
	mmdebstrap squashfs-tools xorriso isolinux syslinux-common dosfstools mtools gdisk e2fsprogs \
	grub-common grub-efi-amd64-bin grub-pc-bin cpio xz-utils zstd gzip \
	gcc libc6-dev libblkid-dev libvirt-dev pkg-config iproute2 procps curl python3-sushy openipmi ipmitool jq tmux \
	ipxe dnsmasq-base busybox isc-dhcp-client atftp tftp-hpa keepalived

# What `make bench` measures beside.
RIVALS := nginx-light atftpd iputils-ping

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make demo MACHINE=qemu SERVERS=1   one full virtual machine, to an installed host without a cluster"
	@echo "  make demo PLATFORM=1              on to KubeVirt, its proofs and the hand-off page"

.PHONY: deps
deps: ## Install the Debian packages that lab and tests need (as root)
	@scripts/deps $(PACKAGES)

.PHONY: build
build: ## Build bin/metalrise
	@# static, because the same file is the agent on every machine
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/metalrise

.PHONY: demo
demo: deps build ## Show the main job: a lab rack from powered off to a cluster's ready nodes
	@LAB=$(LAB) MACHINE=$(MACHINE) SERVERS=$(SERVERS) scripts/demo

.PHONY: test
test: deps test-quick test-real ## Run everything that CI runs

.PHONY: test-quick
test-quick: lint ## Run the everyday tests, with the race detector
	$(GO) test -race ./...

.PHONY: payload
payload: build ## Build what the lab's nodes run (the first time: about ten minutes)
	@# before the tests, so that it shows how far it is and eats no test's time
	$(BIN) lab payload

.PHONY: payload-platform
payload-platform: build ## The same with a VM platform, KubeVirt (the first time: some five minutes more)
	$(BIN) lab payload --platform

.PHONY: test-real
test-real: payload payload-platform ## Run the tests with real parts: image, machines, installs, clusters (as root)
	METALRISE_REAL=1 $(GO) test -count=1 -timeout 30m -p 1 ./lab/... ./ignition
	METALRISE_REAL=1 $(GO) test -count=1 -timeout 20m -p 1 ./kube ./kube/vmstack
	METALRISE_REAL=1 $(GO) test -count=1 -timeout 40m -v -run 'TestReal' -skip '$(LONG)' ./cmd/metalrise

# What takes minutes each and proves faults and rarer ways; not in CI.
LONG := TestRealPlatform|TestRealClusterFaults|TestRealPrepared|TestRealBundle|TestRealProbe|TestRealMinimalMedia

.PHONY: test-long
test-long: payload payload-platform ## Run the long tests: KubeVirt and its proofs, faults of clusters, the single node's medium, bundles, probes, slow links (not in CI)
	METALRISE_REAL=1 $(GO) test -count=1 -timeout 90m -v -run '$(LONG)' ./cmd/metalrise

# What needs real firmware: wrong clocks, every rung of the boot ladder, power cuts.
FULL := TestRealWrongClock|TestRealRungs|TestRealLadderToTheBottom|TestRealPowerCut|TestRealServe|TestRealUnnamed|TestRealSiteMedium|TestRealMinimalMedium

.PHONY: test-qemu
test-qemu: deps build ## Run the conformance and install tests on full virtual machines (slow; not in CI)
	METALRISE_REAL=1 METALRISE_QEMU=1 $(GO) test -count=1 -timeout 60m -p 1 -v ./lab/machine/qemu ./iso ./boot/netboot
	METALRISE_REAL=1 METALRISE_QEMU=1 $(GO) test -count=1 -timeout 180m -v -run '$(FULL)' ./cmd/metalrise

.PHONY: lint
lint: ## Check form and common mistakes
	@unformatted=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

.PHONY: bench
bench: build ## Measure: servers installed (10, 100, 1,000), start-up, memory, journal, media, TFTP
	@scripts/deps $(RIVALS)
	METALRISE_BINARY=$(CURDIR)/$(BIN) $(GO) test -run '^$$' -bench . -benchtime 1x -timeout 30m ./bench
	$(GO) test -run '^$$' -bench . ./provision ./provision/store ./iso ./bmc ./agent ./plan ./ignition ./kube ./tui
	$(GO) test -run '^$$' -bench TFTP -benchtime 1x ./boot/netboot

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 30s)
	@scripts/fuzz $(or $(FUZZTIME),30s)

.PHONY: test-screens
test-screens: ## Press a million random keys on the screens
	METALRISE_STEPS=1000000 $(GO) test -count=1 -timeout 30m -v -run 'TestRandomInputs' ./tui

.PHONY: screens
screens: ## Draw docs/screens from the screens
	$(GO) test ./tui -run TestPicturesShowThePresentScreens -update

.PHONY: docs
docs: build ## Write the documents that are made from the code
	$(BIN) docs docs

.PHONY: golden
golden: ## Accept the present results as the golden files (then read the diff)
	$(GO) test ./plan ./ignition ./bmc ./fleet/site ./tui -update

.PHONY: clean
clean: ## Remove what was built (not the cache of the lab's image)
	rm -rf bin
