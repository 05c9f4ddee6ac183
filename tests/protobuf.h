/*
 * The wire format of Protocol Buffers, as far as reading ONNX files takes it
 * (https://protobuf.dev/programming-guides/encoding/). Every length is checked against what
 * remains.
 */
#ifndef TESTS_PROTOBUF_H
#define TESTS_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire {
    const uint8_t *at, *end;
    bool bad;                   /* something was cut off or unknown: nothing follows */
};

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;             /* of a varint or fixed field */
    struct wire bytes;          /* of a WIRE_BYTES field: a string, a message, packed values */
};

/* The next field of a message; false: there is none, or it is bad. */
bool wire_next(struct wire *w, struct wire_field *field);

/* The next value of a repeated field, packed or not: `rest` begins as a copy of the field.
 * `type` is how one value is written. false: there is no other one. */
bool wire_value(struct wire_field *rest, enum wire_type type, uint64_t *value);

#endif
