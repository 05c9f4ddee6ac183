#!/usr/bin/env python3
"""Writes a bundle from plain lists: a linear model of 4 measures and 3 classes. Usage: FILE"""
import json, struct, sys


def write_bundle(path, graph, tensors, labels=None):
    """`tensors` are (name, shape, flat list of numbers)."""
    header = {"__metadata__": {"format": "predictd/1", "graph": json.dumps(graph)}}
    if labels:
        header["__metadata__"]["labels"] = json.dumps(labels)
    elements = b""
    for name, shape, values in tensors:
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [len(elements), len(elements) + 4 * len(values)]}
        elements += struct.pack("<%df" % len(values), *values)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + elements)


def write_linear(path):
    weight = [2.0, -1.0, 0.0, 0.5, 0.0, 1.0, 1.0, -0.5, -2.0, 0.0, -1.0, 1.0]   # [classes, measures]
    graph = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
             "nodes": [{"op": "Gemm", "inputs": ["x", "weight", "bias"], "outputs": ["logits"],
                        "attributes": {"transB": 1}},
                       {"op": "Softmax", "inputs": ["logits"], "outputs": ["probabilities"]}],
             "outputs": ["probabilities"]}
    write_bundle(path, graph, [("weight", [3, 4], weight), ("bias", [3], [0.1, 0.0, -0.1])],
                 ["setosa", "versicolor", "virginica"])


if __name__ == "__main__":
    write_linear(sys.argv[1])
