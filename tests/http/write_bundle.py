#!/usr/bin/env python3
"""Writes a bundle from plain lists: a linear model of 4 measures and 3 classes. Usage: FILE"""
import json, struct, sys

weight = [[2.0, -1.0, 0.0, 0.5], [0.0, 1.0, 1.0, -0.5], [-2.0, 0.0, -1.0, 1.0]]    # [classes, measures]
bias = [0.1, 0.0, -0.1]

graph = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
         "nodes": [{"op": "Gemm", "inputs": ["x", "weight", "bias"], "outputs": ["logits"],
                    "attributes": {"transB": 1}},
                   {"op": "Softmax", "inputs": ["logits"], "outputs": ["probabilities"]}],
         "outputs": ["probabilities"]}

header = {"__metadata__": {"format": "predictd/1", "graph": json.dumps(graph),
                           "labels": json.dumps(["setosa", "versicolor", "virginica"])}}
elements = b""
for name, shape, values in [("weight", [3, 4], sum(weight, [])), ("bias", [3], bias)]:
    header[name] = {"dtype": "F32", "shape": shape,
                    "data_offsets": [len(elements), len(elements) + 4 * len(values)]}
    elements += struct.pack("<%df" % len(values), *values)

text = json.dumps(header).encode()
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + elements)
