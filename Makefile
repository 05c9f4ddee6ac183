# predictd: `make run` shows it, `make test` proves it, `make help` lists the rest.
#
# Variables: CC=clang  SANITIZE=address,undefined | thread  V=1  WERROR=1  PREFIX  DESTDIR

PREFIX  ?= /usr/local
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
VERSION := 0.1.0

# ---- a variant has a folder of its own ------------------------------------------------------

comma   := ,
variant := $(strip $(if $(findstring clang,$(CC)),clang) $(subst $(comma),-,$(SANITIZE)) $(if $(REAL),$(REAL)))
BUILD   := build$(if $(variant),/$(subst $() ,-,$(variant)))

# ---- flags ----------------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Wshadow -Wvla -Wpointer-arith -Wstrict-prototypes \
            -Wmissing-prototypes -Wwrite-strings -Wformat=2 -Wundef -Wimplicit-fallthrough
OPTIMIZE := $(if $(SANITIZE),-O1 -fno-omit-frame-pointer,-O3)
HARDEN   := $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection)

packages := libmicrohttpd jansson openblas zlib libcurl cmocka
pc_cflags = $(shell pkg-config --cflags $(1) 2>/dev/null)
pc_libs   = $(shell pkg-config --libs $(1) 2>/dev/null)

CFLAGS   ?= -g
override CFLAGS += -std=gnu11 -fPIE $(OPTIMIZE) $(HARDEN) $(WARNINGS) $(if $(WERROR),-Werror) \
            $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all) \
            $(if $(REAL),-DNN_REAL=$(REAL)) -ffunction-sections -fdata-sections
CPPFLAGS += -D_GNU_SOURCE -I. -DPREDICTD_VERSION='"$(VERSION)"' $(call pc_cflags,$(packages))
LDFLAGS  += -pie -pthread -Wl,--gc-sections -Wl,-z,relro,-z,now,-z,noexecstack \
            $(if $(SANITIZE),-fsanitize=$(SANITIZE))

engine_libs  := $(call pc_libs,jansson openblas) -lm
server_libs  := $(call pc_libs,libmicrohttpd)
trainer_libs := $(call pc_libs,zlib)
test_libs    := $(call pc_libs,libcurl cmocka)

# ---- sources --------------------------------------------------------------------------------

engine_sources  := $(wildcard engine/*.c engine/*/*.c)
trainer_sources := $(filter-out trainer/main.c,$(wildcard trainer/*.c trainer/*/*.c))
server_sources  := $(filter-out server/main.c,$(wildcard server/*.c server/*/*.c))
helper_sources  := $(filter-out tests/test_%.c,$(wildcard tests/*.c))
test_sources    := $(wildcard tests/test_*.c)
gradient_tests  := $(wildcard tests/gradients/test_*.c)
bench_sources   := $(wildcard tests/bench/*.c)

objects   = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
tests    := $(patsubst tests/%.c,$(BUILD)/tests/%,$(test_sources))
gradients:= $(patsubst tests/gradients/%.c,$(BUILD)/tests/%,$(gradient_tests))
benches  := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(bench_sources))
quiet     = $(if $(V),,@echo "  $(1)	$@";)

# ---- what there is to build -----------------------------------------------------------------

.PHONY: all
all: $(BUILD)/predictd $(BUILD)/predictd-train

$(BUILD)/libengine.a: $(call objects,$(engine_sources))
$(BUILD)/libtrainer.a: $(call objects,$(trainer_sources))
$(BUILD)/libserver.a: $(call objects,$(server_sources))
$(BUILD)/libtest.a: $(call objects,$(helper_sources))

$(BUILD)/lib%.a:
	$(call quiet,AR)rm -f $@ && ar rcs $@ $^

$(BUILD)/predictd: $(BUILD)/obj/server/main.o $(BUILD)/libserver.a $(BUILD)/libengine.a
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(server_libs) $(engine_libs)

$(BUILD)/predictd-train: $(BUILD)/obj/trainer/main.o $(BUILD)/libtrainer.a $(BUILD)/libengine.a
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(trainer_libs) $(engine_libs)

test_archives := $(addprefix $(BUILD)/lib,test.a server.a trainer.a engine.a)

$(tests): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(test_archives)
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(server_libs) $(trainer_libs) $(test_libs) $(engine_libs)

# The gradient checks are meant for a build with REAL=double.
$(gradients): $(BUILD)/tests/%: $(BUILD)/obj/tests/gradients/%.o $(BUILD)/libtrainer.a $(BUILD)/libengine.a
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(trainer_libs) $(test_libs) $(engine_libs)

$(benches): $(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(test_archives)
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(server_libs) $(trainer_libs) $(test_libs) $(engine_libs)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:

.PHONY: tests
tests: $(tests)
.PHONY: gradients
gradients: $(gradients)

.PHONY: clean
clean:
	rm -rf build
