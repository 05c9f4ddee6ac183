#!/usr/bin/env python3
"""Writes the model of a bundle as an ONNX file, which takes no more than another container: the
operations are ONNX's. Usage: write_onnx.py BUNDLE FILE

What is written is https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, by the wire format of
https://protobuf.dev/programming-guides/encoding/."""
import json, struct, sys

OPSET, IR_VERSION = 17, 8
FLOAT = 1                                                      # TensorProto.DataType


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def data(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def attribute(name, value):                                     # AttributeProto
    if isinstance(value, float):
        return data(1, name) + varint(2 << 3 | 5) + struct.pack("<f", value) + number(20, 1)
    if isinstance(value, int):
        return data(1, name) + number(3, value) + number(20, 2)
    if isinstance(value, str):
        return data(1, name) + data(4, value) + number(20, 3)
    return data(1, name) + b"".join(number(8, v) for v in value) + number(20, 7)


def node(n):                                                    # NodeProto
    return (b"".join(data(1, i) for i in n["inputs"]) + b"".join(data(2, o) for o in n["outputs"])
            + data(4, n["op"]) + b"".join(data(5, attribute(k, v))
                                          for k, v in n.get("attributes", {}).items()))


def constant(name, shape, elements):                            # TensorProto
    return b"".join(number(1, d) for d in shape) + number(2, FLOAT) + data(8, name) + data(9, elements)


def port(name, shape):                                          # ValueInfoProto
    dims = b"".join(data(1, data(2, "batch") if d < 0 else number(1, d)) for d in shape)
    shape = data(2, dims) if shape else b""
    return data(1, name) + data(2, data(1, number(1, FLOAT) + shape))


def main(bundle, path):
    with open(bundle, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        elements = file.read()
    graph = json.loads(header.pop("__metadata__")["graph"])
    constants = {k: v for k, v in header.items() if not k.startswith("golden.")}
    assert all(v["dtype"] == "F32" for v in constants.values())

    text = b"".join(data(1, node(n)) for n in graph["nodes"]) + data(2, "predictd")
    for name, v in constants.items():
        begin, end = v["data_offsets"]
        text += data(5, constant(name, v["shape"], elements[begin:end]))
    text += b"".join(data(11, port(i["name"], i["shape"])) for i in graph["inputs"])
    text += b"".join(data(12, port(o, [])) for o in graph["outputs"])
    with open(path, "wb") as file:
        file.write(number(1, IR_VERSION) + data(7, text) + data(8, number(2, OPSET)))


main(*sys.argv[1:])
