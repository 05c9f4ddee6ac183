"""Clients of other servers in Python. Usage: PORT ADMIN_PORT

tritonclient is in no Debian package. It sends what rapidjson writes over geventhttpclient, and both
are: so these are its requests, as its _client.py, _utils.py and _infer_input.py put them together,
read back as its _infer_result.py does. Clients of TensorFlow Serving and MLServer use requests.
"""
import gzip
import json
import math
import struct
import sys

import geventhttpclient
import rapidjson
import requests

port, admin_port = sys.argv[1:]
rows = [[1.0, 0.0, 0.0, 0.0], [6.8, 2.8, 4.8, 1.4]]
weight = [[2.0, -1.0, 0.0, 0.5], [0.0, 1.0, 1.0, -0.5], [-2.0, 0.0, -1.0, 1.0]]  # of write_bundle.py
bias = [0.1, 0.0, -0.1]


def softmax(row):
    logits = [sum(w * x for w, x in zip(ws, row)) + b for ws, b in zip(weight, bias)]
    powers = [math.exp(v - max(logits)) for v in logits]
    return [p / sum(powers) for p in powers]


expected = [v for row in rows for v in softmax(row)]


def check(got, name):
    assert len(got) == len(expected), (name, got)
    assert all(abs(a - b) < 1e-5 for a, b in zip(got, expected)), (name, got, expected)


class Triton:
    """tritonclient.http.InferenceServerClient with what it sends by default."""

    def __init__(self, address):
        self.stub = geventhttpclient.HTTPClient.from_url(
            geventhttpclient.URL("http://" + address), concurrency=1, connection_timeout=60.0,
            network_timeout=60.0)

    def get(self, path):
        response = self.stub.get("/" + path)
        return response.status_code, response.read()

    def post(self, path, body, headers=None):
        if headers is None:
            response = self.stub.post(request_uri="/" + path, body=body)
        else:
            response = self.stub.post(request_uri="/" + path, body=body, headers=headers)
        return response, response.read()

    def infer(self, outputs=None, request_id="", parameters=None, binary=True, compress=False):
        raw = b"".join(struct.pack("<4f", *row) for row in rows)
        tensor = {"name": "x", "shape": [2, 4], "datatype": "FP32"}
        if binary:
            tensor["parameters"] = {"binary_data_size": len(raw)}
        else:
            tensor["data"] = [v for row in rows for v in row]
        request, parameters = {}, dict(parameters or {})
        if request_id != "":
            request["id"] = request_id
        request["inputs"] = [tensor]
        if outputs:
            request["outputs"] = outputs
        else:
            parameters["binary_data_output"] = True
        if parameters:
            request["parameters"] = parameters
        text = rapidjson.dumps(request)
        body, headers = text.encode() + (raw if binary else b""), {}
        if compress:
            headers.update({"Content-Encoding": "gzip", "Accept-Encoding": "gzip"})
            body = gzip.compress(body)
        if binary:
            headers["Inference-Header-Content-Length"] = len(text)
        response, answer = self.post("v2/models/measures/infer", body, headers or None)
        assert response.status_code == 200, (response.status_code, answer)
        if response.get("Content-Encoding") == "gzip":
            answer = gzip.decompress(answer)
        length = response.get("Inference-Header-Content-Length")
        if length is None:
            return rapidjson.loads(answer), b""
        return rapidjson.loads(answer[:int(length)]), answer[int(length):]


def check_triton():
    client = Triton("127.0.0.1:" + port)
    for path in ["v2/health/live", "v2/health/ready", "v2/models/measures/ready",
                 "v2/models/measures/versions/1/ready"]:
        assert client.get(path)[0] == 200, path
    for path in ["v2", "v2/models/measures", "v2/models/measures/config",
                 "v2/models/measures/stats", "v2/models/stats"]:
        status, body = client.get(path)
        assert status == 200 and isinstance(rapidjson.loads(body), dict), (path, status, body)
    response, body = client.post("v2/repository/index", "")
    assert response.status_code == 200 and rapidjson.loads(body)[0]["state"] == "READY", body

    binary = lambda raw: list(struct.unpack("<%df" % (len(raw) // 4), raw))
    for compress in [False, True]:
        answer, raw = client.infer(request_id="7", compress=compress)
        output = answer["outputs"][0]
        assert answer["id"] == "7" and output["shape"] == [2, 3], answer
        assert output["parameters"]["binary_data_size"] == len(raw) == 24, answer
        check(binary(raw), "binary both ways")
    answer, raw = client.infer([{"name": "probabilities", "parameters": {"binary_data": False}}])
    check(answer["outputs"][0]["data"], "binary in, JSON out")
    answer, raw = client.infer([{"name": "probabilities", "parameters": {"binary_data": True}}], binary=False)
    check(binary(raw), "JSON in, binary out")
    answer, raw = client.infer(parameters={"priority": 1, "timeout": 10000000, "mine": "x"})
    check(binary(raw), "parameters")
    answer, raw = client.infer([{"name": "probabilities",
                                 "parameters": {"classification": 2, "binary_data": True}}])
    texts, at = [], 0
    while at < len(raw):        # deserialize_bytes_tensor()
        n = struct.unpack_from("<I", raw, at)[0]
        texts.append(raw[at + 4:at + 4 + n].decode())
        at += 4 + n
    assert answer["outputs"][0]["datatype"] == "BYTES", answer
    assert [t.split(":")[2] for t in texts] == ["setosa", "versicolor"] * 2, texts

    response, body = client.post("v2/models/measures/infer", b"{}")
    assert response.status_code == 400 and rapidjson.loads(body)["error"], body
    response, body = client.post("v2/models/none/infer", b"{}")
    assert response.status_code == 404 and rapidjson.loads(body)["error"], body
    response, body = Triton("127.0.0.1:" + admin_port).post("v2/repository/models/measures/load", "{}")
    assert response.status_code == 200, body


def check_requests():
    url = "http://127.0.0.1:" + port
    with requests.Session() as session:
        # tensorflow.org/tfx/tutorials/serving/rest_simple
        data = json.dumps({"signature_name": "serving_default", "instances": rows})
        answer = session.post(url + "/v1/models/measures:predict", data=data,
                              headers={"content-type": "application/json"})
        check([v for row in json.loads(answer.text)["predictions"] for v in row], "TensorFlow Serving")
        answer = session.get(url + "/v1/models/measures/metadata").json()
        assert "serving_default" in answer["metadata"]["signature_def"]["signature_def"], answer
        # mlserver.readthedocs.io, examples/sklearn
        answer = session.post(url + "/v2/models/measures/versions/1/infer", json={
            "inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": rows}]}).json()
        check(answer["outputs"][0]["data"], "plain JSON")


check_triton()
check_requests()
