#include "tests/protobuf.h"

#include <string.h>

static bool spoil(struct wire *w)
{
    w->bad = true;
    w->at = w->end;
    return false;
}

static bool read_varint(struct wire *w, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (w->at == w->end)
            return spoil(w);
        uint8_t byte = *w->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return spoil(w);
}

static bool read_fixed(struct wire *w, size_t size, uint64_t *value)
{
    if ((size_t)(w->end - w->at) < size)
        return spoil(w);
    *value = 0;
    for (size_t i = 0; i < size; i++)
        *value |= (uint64_t)*w->at++ << 8 * i;
    return true;
}

static bool read_scalar(struct wire *w, enum wire_type type, uint64_t *value)
{
    switch (type) {
    case WIRE_VARINT:
        return read_varint(w, value);
    case WIRE_FIXED64:
        return read_fixed(w, 8, value);
    case WIRE_FIXED32:
        return read_fixed(w, 4, value);
    default:
        return spoil(w);
    }
}

bool wire_next(struct wire *w, struct wire_field *field)
{
    uint64_t key;
    if (w->at == w->end || !read_varint(w, &key))
        return false;
    *field = (struct wire_field){.number = (uint32_t)(key >> 3), .type = key & 7};
    if (field->type != WIRE_BYTES)
        return read_scalar(w, field->type, &field->value);

    uint64_t length;
    if (!read_varint(w, &length))
        return false;
    if (length > (uint64_t)(w->end - w->at))
        return spoil(w);
    field->bytes = (struct wire){.at = w->at, .end = w->at + length};
    w->at += length;
    return true;
}

bool wire_value(struct wire_field *rest, enum wire_type type, uint64_t *value)
{
    if (rest->type == WIRE_BYTES)
        return rest->bytes.at != rest->bytes.end && read_scalar(&rest->bytes, type, value);
    if (rest->type != type)
        return false;
    *value = rest->value;
    rest->type = WIRE_BYTES;    /* with no bytes: the one value is taken */
    return true;
}
