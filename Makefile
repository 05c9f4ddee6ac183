# predictd: `make run` shows it, `make test` proves it, `make help` lists the rest.
#
# Variables: CC=clang  SANITIZE=address,undefined | thread  CROSS=aarch64-linux-gnu  V=1
#            WERROR=1  PREFIX  DESTDIR

PREFIX  ?= /usr/local
CC      := $(if $(filter default,$(origin CC)),$(CROSS:%=%-)gcc,$(CC))
VERSION := 0.1.0

# ---- a variant has a folder of its own ------------------------------------------------------

comma   := ,
variant := $(strip $(if $(findstring clang,$(CC)),clang) $(subst $(comma),-,$(SANITIZE)) $(if $(REAL),$(REAL)) $(CROSS))
BUILD   := build$(if $(variant),/$(subst $() ,-,$(variant)))

# ---- flags ----------------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Wshadow -Wvla -Wpointer-arith -Wstrict-prototypes \
            -Wmissing-prototypes -Wwrite-strings -Wformat=2 -Wundef -Wimplicit-fallthrough
OPTIMIZE := $(if $(SANITIZE),-O1 -fno-omit-frame-pointer,-O3)
HARDEN   := $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection)

packages := libmicrohttpd gnutls jansson openblas zlib libcurl cmocka
pkg_config = $(if $(CROSS),PKG_CONFIG_LIBDIR=/usr/lib/$(CROSS)/pkgconfig:/usr/share/pkgconfig) pkg-config
pc_cflags = $(shell $(pkg_config) --cflags $(1) 2>/dev/null)
pc_libs   = $(shell $(pkg_config) --libs $(1) 2>/dev/null)

CFLAGS   ?= -g
override CFLAGS += -std=gnu11 -fno-math-errno -fPIE $(OPTIMIZE) $(HARDEN) $(WARNINGS) $(if $(WERROR),-Werror) \
            $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all) \
            $(if $(REAL),-DNN_REAL=$(REAL)) -ffunction-sections -fdata-sections \
            -fno-trapping-math
CPPFLAGS += -D_GNU_SOURCE -I. -DPREDICTD_VERSION='"$(VERSION)"' $(call pc_cflags,$(packages))
LDFLAGS  += -pie -pthread -Wl,--gc-sections -Wl,-z,relro,-z,now,-z,noexecstack \
            $(if $(SANITIZE),-fsanitize=$(SANITIZE))

engine_libs  := $(call pc_libs,jansson openblas) -lm
server_libs  := $(call pc_libs,libmicrohttpd gnutls zlib)
trainer_libs := $(call pc_libs,zlib)
test_libs    := $(call pc_libs,libcurl cmocka)

# ---- sources --------------------------------------------------------------------------------

engine_sources  := $(wildcard engine/*.c engine/*/*.c)
trainer_sources := $(filter-out trainer/main.c,$(wildcard trainer/*.c trainer/*/*.c))
server_sources  := $(filter-out server/main.c,$(wildcard server/*.c server/*/*.c))
helper_sources  := $(filter-out tests/test_%.c,$(wildcard tests/*.c))
test_sources    := $(wildcard tests/test_*.c)
gradient_tests  := $(wildcard tests/gradients/test_*.c)
bench_programs  := $(wildcard tests/bench/bench_*.c tests/bench/*_server.c)
soak_sources    := $(wildcard tests/soak/*.c)
bench_sources   := $(filter-out $(bench_programs),$(wildcard tests/bench/*.c))
fuzz_helpers    := tests/fuzz/file.c tests/fuzz/identities.c
fuzz_targets    := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

objects   = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
tests    := $(patsubst tests/%.c,$(BUILD)/tests/%,$(test_sources))
gradients:= $(patsubst tests/gradients/%.c,$(BUILD)/tests/%,$(gradient_tests))
replays  := $(addprefix $(BUILD)/tests/test_fuzz_,$(fuzz_targets))
fuzzers  := $(addprefix $(BUILD)/fuzz/,$(fuzz_targets))
benches  := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(bench_programs))
quiet     = $(if $(V),,@echo "  $(1)	$@";)

# ---- what there is to build -----------------------------------------------------------------

.PHONY: all
all: $(BUILD)/predictd $(BUILD)/predictd-train

$(BUILD)/libengine.a: $(call objects,$(engine_sources))
$(BUILD)/libtrainer.a: $(call objects,$(trainer_sources))
$(BUILD)/libserver.a: $(call objects,$(server_sources))
$(BUILD)/libtest.a: $(call objects,$(helper_sources))

$(BUILD)/lib%.a:
	$(call quiet,AR)rm -f $@ && $(CROSS:%=%-)ar rcs $@ $^

$(BUILD)/predictd: $(BUILD)/obj/server/main.o $(BUILD)/libserver.a $(BUILD)/libengine.a
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(server_libs) $(engine_libs)

$(BUILD)/predictd-train: $(BUILD)/obj/trainer/main.o $(BUILD)/libtrainer.a $(BUILD)/libengine.a
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(trainer_libs) $(engine_libs)

test_archives := $(addprefix $(BUILD)/lib,test.a server.a trainer.a engine.a)

$(tests): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(test_archives)
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(server_libs) $(trainer_libs) $(test_libs) $(engine_libs)

# Their allocations can be made to fail.
$(addprefix $(BUILD)/tests/test_,memory allocation): LDFLAGS += $(addprefix -Wl$(comma)--wrap=, \
    malloc calloc realloc reallocarray aligned_alloc strdup strndup asprintf __asprintf_chk)

# The allocator that a test has the server use. Never with a sanitizer, whose own it would replace.
$(BUILD)/failing_malloc.so: tests/preload/failing_malloc.c tests/preload/failing_malloc.h
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) -I. -std=gnu11 -g -O2 -fno-builtin $(WARNINGS) $(if $(WERROR),-Werror) \
	    -Wno-missing-prototypes -fPIC -shared -o $@ $<

# The gradient checks are meant for a build with REAL=double.
gradient_rows := $(call objects,tests/op_case.c tests/op_cases.c)

$(gradients): $(BUILD)/tests/%: $(BUILD)/obj/tests/gradients/%.o $(gradient_rows) $(BUILD)/libtrainer.a $(BUILD)/libengine.a
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(trainer_libs) $(test_libs) $(engine_libs)

$(BUILD)/libbench.a: $(call objects,$(bench_sources))

$(benches): $(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(BUILD)/libbench.a $(test_archives)
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(server_libs) $(trainer_libs) $(test_libs) $(engine_libs)

$(BUILD)/soak: $(call objects,$(soak_sources)) $(test_archives)
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(server_libs) $(trainer_libs) $(test_libs) $(engine_libs)

# A fuzz target runs with libFuzzer or, as a test, with its corpus.
$(replays): $(BUILD)/tests/test_fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o \
    $(call objects,$(fuzz_helpers) tests/fuzz/replay.c) $(test_archives)
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(server_libs) $(trainer_libs) $(test_libs) $(engine_libs)

$(fuzzers): $(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/fuzz_%.o \
    $(call objects,$(fuzz_helpers)) $(test_archives)
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(server_libs) $(trainer_libs) $(test_libs) $(engine_libs)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# What is embedded, which the compiler does not tell of.
$(BUILD)/obj/server/api/openapi.o: server/api/openapi.json

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:

# ---- what to do with it ---------------------------------------------------------------------

.PHONY: help
help:
	@echo 'make               build/predictd and build/predictd-train'
	@echo 'make run           show the whole product: serve, train, publish, reload'
	@echo 'make test          build and run every test under the address sanitizer'
	@echo 'make check         all of that, the thread sanitizer, both compilers, layers, symbols'
	@echo 'make check-mnist   train MNIST to 99.3 %, serve it, compare all 10,000 answers'
	@echo 'make container-test  build the image of docker/Dockerfile and run it; needs root'
	@echo 'make fuzz          look for crashes, SECONDS=60 for each target'
	@echo 'make arm64-test    cross-build for arm64, unit tests under qemu; needs root'
	@echo 'make bench         measure beside a bare libmicrohttpd server, and other servers that'
	@echo '                   make bench-peers installs'
	@echo 'make soak          drain and reload under load, 1,000 times each; overload'
	@echo 'make install       to $$(DESTDIR)$$(PREFIX), which is $(PREFIX)'
	@echo 'make format        clang-format of the lines that differ from the last commit'
	@echo 'make clean         remove build/'
	@echo 'Variables: CC=clang  SANITIZE=address,undefined  CROSS=aarch64-linux-gnu  V=1  WERROR=1'

# What a target needs, by pkg-config and in PATH; what is missing is installed where there
# is apt, and listed elsewhere.
build_modules := libmicrohttpd gnutls jansson openblas zlib
build_needs   := gcc libc6-dev pkg-config libmicrohttpd-dev libgnutls28-dev libjansson-dev \
                 libopenblas-dev zlib1g-dev curl
test_needs    := $(build_needs) libcurl4-openssl-dev libcmocka-dev libonnx-testdata python3 \
                 haproxy nginx-light openssl slowhttptest faketime strace prometheus \
                 python3-geventhttpclient python3-rapidjson python3-requests
check_needs   := $(test_needs) clang libclang-rt-14-dev

define need # programs, pkg-config modules, files, Debian packages
	@missing=; \
	for program in $(1); do command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	for module in $(2); do pkg-config --exists $$module 2>/dev/null || missing="$$missing $$module"; done; \
	for file in $(3); do test -e $$file || missing="$$missing $$file"; done; \
	test -z "$$missing" && exit 0; \
	echo "predictd needs, and does not find:$$missing"; \
	if ! command -v apt-get >/dev/null; then \
	    echo "Please install what these Debian packages hold: $(4)"; exit 1; fi; \
	sudo=; test $$(id -u) = 0 || sudo=sudo; \
	echo "Installing with $$sudo apt-get: $(4)"; \
	$$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    $$sudo apt-get install -y -qq --no-install-recommends $(4) >/dev/null
endef

.PHONY: need-build need-test need-check need-container
need-build:
	$(call need,gcc pkg-config curl,$(build_modules),,$(build_needs))
need-test:
	$(call need,gcc pkg-config curl python3 openssl,$(packages),/usr/share/libonnx-testdata \
	    /usr/sbin/haproxy /usr/sbin/nginx /usr/bin/slowhttptest /usr/bin/faketime \
	    /usr/bin/strace /usr/bin/promtool \
	    /usr/lib/python3/dist-packages/geventhttpclient,$(test_needs))
need-check: need-test
	$(call need,clang,,$(wildcard /usr/lib/llvm-14),$(check_needs))
need-container:
	$(call need,podman curl git,,/usr/sbin/debootstrap,podman curl git debootstrap)

# Make again, with what was installed by now.
INNER   = $(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: run
run: need-build
	+@$(INNER) all
	@sh models/demo.sh

# The tests run under the sanitizers; the gradient checks in double precision besides.
ASAN   := address,undefined
CLANG  := $(if $(findstring clang,$(CC)),clang-)
.PHONY: test
test: need-test
	+@$(INNER) check-layers
	+@$(INNER) SANITIZE=$(ASAN) all tests
	+@$(INNER) SANITIZE=$(ASAN) REAL=double gradients
	+@$(INNER) all check-symbols
	@bash tests/run.sh build/$(CLANG)address-undefined build/$(CLANG)address-undefined-double

.PHONY: tests gradients fuzzers
tests: $(tests) $(replays) $(BUILD)/failing_malloc.so
gradients: $(gradients)
fuzzers: $(fuzzers)

.PHONY: check
check: need-check test
	+@$(INNER) CC=clang WERROR=1 all tests
	+@$(INNER) check-headers
	+@$(INNER) SANITIZE=thread all tests
	@bash tests/run.sh build/$(CLANG)thread

# What is found beyond tests/fuzz/corpus/ grows in build/fuzz/ and stays there; an input that
# crashes is build/fuzz/crash-*.
SECONDS ?= 60
FUZZING := fuzzer-no-link,$(ASAN)
.PHONY: fuzz
fuzz: need-check
	@$(INNER) CC=clang SANITIZE=$(FUZZING) fuzzers
	@for target in $(fuzz_targets); do \
	    bash tests/fuzz/run.sh build/clang-$(subst $(comma),-,$(FUZZING))/fuzz $$target $(SECONDS) || exit 1; \
	done

.PHONY: check-mnist
check-mnist: need-test
	+@$(INNER) all
	@python3 tests/check_mnist.py $(BUILD) $${PREDICTD_DATA:-data}

.PHONY: container-test
container-test: need-container
	@tests/container/run.sh

.PHONY: arm64-test
arm64-test:
	$(call need,curl,,/usr/sbin/debootstrap,curl debootstrap)
	@tests/container/arm64.sh

# Servers to compare with; `make bench` measures what is there.
.PHONY: bench-peers
bench-peers:
	$(call need,node npm,,/usr/lib/python3/dist-packages/torch /usr/lib/python3/dist-packages/fastapi \
	    /usr/lib/python3/dist-packages/uvicorn,$(if $(shell command -v npm),,nodejs npm) \
	    python3-torch python3-fastapi python3-uvicorn)
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(BUILD)/peers fastify@4 onnxruntime-node@1

.PHONY: bench
bench: need-test
	+@$(INNER) all $(benches)
	@$(BUILD)/bench/bench_predict $(BUILD)
	@$(BUILD)/bench/bench_kernels

# Drains and reloads under load by the thousand, and overload: some minutes, and figures.
DRAINS   ?= 1000
RELOADS  ?= 1000
OVERLOAD ?= 120
.PHONY: soak
soak: need-test
	+@$(INNER) all $(BUILD)/soak
	@status=0; for part in "reloads $(RELOADS)" "rate $(RELOADS)" "overload $(OVERLOAD)" "drains $(DRAINS)"; do \
	    PREDICTD_BUILD=$(BUILD) $(BUILD)/soak $$part || status=1; done; exit $$status

.PHONY: install
install: all
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BUILD)/predictd $(BUILD)/predictd-train $(DESTDIR)$(PREFIX)/bin

.PHONY: format
format:
	git clang-format --force --extensions c,h HEAD

.PHONY: clean
clean:
	rm -rf build

# ---- the architecture, kept true ------------------------------------------------------------

# refuse MESSAGE: the lines that the command before it found must be none.
refuse = | { ! grep . >&2 || { echo "$(1)" >&2; exit 1; }; }

.PHONY: check-layers
check-layers:
	@grep -nE '#include "(server|trainer|tests)/' -r engine \
	    $(call refuse,engine/ includes nothing but engine/)
	@grep -nE '#include "(trainer|tests)/|#include "engine/[^"]*"' -r server | grep -v '"engine/engine.h"' \
	    $(call refuse,server/ sees of the engine only engine/engine.h; nothing of the trainer)
	@grep -nE '#include "(server|tests)/' -r trainer \
	    $(call refuse,trainer/ includes nothing of the server)
	@grep -ln '#include <cblas.h>' -r engine trainer server | grep -vx engine/kernels/gemm.c \
	    $(call refuse,cblas.h has one door: engine/kernels/gemm.c)
	@grep -ln '#include <microhttpd.h>' -r engine trainer server | sed 1,2d \
	    $(call refuse,microhttpd.h has at most two doors)
	@grep -ln '#include <gnutls/' -r engine trainer server | grep -vxE 'server/(tls|sha256).c' \
	    $(call refuse,GnuTLS has two doors: server/tls.c and server/sha256.c)
	@grep -ln '#include <jansson.h>' -r engine | grep -v '^engine/formats/' \
	    $(call refuse,in the engine only formats/ reads JSON)
	@grep -nE '\<(printf|puts|exit|_exit|abort|pthread_create) ?\(' -r engine | grep -v '^[^:]*:[0-9]*: \*' \
	    $(call refuse,the engine prints nothing and never exits and starts no thread)

.PHONY: check-symbols
check-symbols: $(BUILD)/predictd
	@nm $< | grep -E ' gradient_| (autodiff|recipe|network|executor|optimizer|dataset)_' \
	    $(call refuse,the server links no gradient and nothing of the trainer)

.PHONY: check-headers
check-headers:
	@for header in $$(git ls-files 'engine/*.h' 'server/*.h' 'trainer/*.h'); do \
	    echo "#include \"$$header\"" | $(CC) $(CPPFLAGS) $(CFLAGS) -fsyntax-only -x c - || exit 1; done
