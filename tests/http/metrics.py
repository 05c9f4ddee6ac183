#!/usr/bin/env python3
"""Reads /metrics by the letter of the text format 0.0.4 and checks what its numbers have to agree on.
Usage: PORT ADMIN_PORT SHA256-OF-THE-MODEL"""
import http.client, math, re, sys

NAME, SUFFIXES = r"[a-zA-Z_:][a-zA-Z0-9_:]*", ("_bucket", "_sum", "_count")
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(r"(%s)(?:\{((?:%s)(?:,%s)*)\})? (\S+)$" % (NAME, LABEL, LABEL))


def scrape(port):
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    return answer.read().decode()


def read(text):
    """{family: (type, {(sample, labels): value})}: samples stand together, behind what is said of them."""
    families, name, kind = {}, None, None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, help_text = line[7:].split(" ", 1)
            assert name not in families and help_text, line
            kind = None
        elif line.startswith("# TYPE "):
            its, kind = line[7:].split(" ")
            assert its == name and kind in ("counter", "gauge", "histogram"), line
            families[name] = (kind, {})
        else:
            match = SAMPLE.match(line)
            assert match, line
            sample, labels = match[1], match[2] or ""
            if kind == "histogram":
                assert sample.startswith(name) and sample[len(name):] in SUFFIXES, line
            else:
                assert sample == name, line
            pairs = tuple((key, value) for key, value in re.findall(LABEL, labels))
            assert len({key for key, _ in pairs}) == len(pairs), line
            assert (sample, pairs) not in families[name][1], "twice: " + line
            families[name][1][sample, pairs] = float(match[match.lastindex])
    return families


def check_histogram(name, samples):
    series = {}
    for (sample, labels), value in samples.items():
        rest = tuple(p for p in labels if p[0] != "le")
        series.setdefault(rest, []).append((sample[len(name):], dict(labels).get("le"), value))
    for labels, parts in series.items():
        buckets = [(float(le), value) for suffix, le, value in parts if suffix == "_bucket"]
        values = {suffix: value for suffix, _, value in parts if suffix != "_bucket"}
        assert buckets == sorted(buckets), (name, labels)
        assert [v for _, v in buckets] == sorted(v for _, v in buckets), (name, labels)
        assert buckets[-1] == (math.inf, values["_count"]), (name, labels)
        assert (values["_sum"] > 0) == (values["_count"] > 0), (name, labels)


def main():
    port, admin_port, sum_of_file = sys.argv[1:]
    texts = [scrape(port), scrape(admin_port)]
    data, admin = [read(text) for text in texts]
    assert data.keys() == admin.keys()
    for name, (kind, samples) in data.items():
        assert kind != "counter" or name.startswith("nv_") or name.endswith("_total"), name
        for value in samples.values():
            assert value >= 0, name
        if kind == "histogram":
            check_histogram(name, samples)

    def value(sample, **labels):
        family = next(f for f in data if sample in [f] + [f + s for s in SUFFIXES])
        return next(v for (s, pairs), v in data[family][1].items() if s == sample and dict(pairs) == labels)
    m = {"model": "m", "version": "1"}
    assert value("predictd_model_info", sha256=sum_of_file, **m) == 1
    assert value("predictd_predictions_total", **m) == 4
    assert value("predictd_prediction_failures_total", **m) == 1
    assert value("nv_inference_request_success", **m) == 3
    assert value("nv_inference_request_failure", reason="OTHER", **m) == 1
    assert value("nv_inference_request_failure", reason="REJECTED", **m) == 0
    assert value("nv_inference_count", **m) == value("predictd_instances_total", **m) == 6
    assert value("nv_inference_exec_count", **m) == value("predictd_batches_total", **m) == 3
    assert value("nv_inference_pending_request_count", **m) == 0
    stages = ("decode", 4), ("queue", 3), ("compute", 3), ("encode", 3)
    triton = {"decode": "compute_input", "queue": "queue", "compute": "compute_infer", "encode": "compute_output"}
    for stage, count in stages:
        name = "predictd_prediction_stage_duration_seconds"
        assert value(name + "_count", stage=stage, **m) == count, stage
        microseconds = value("nv_inference_%s_duration_us" % triton[stage], **m)
        assert abs(value(name + "_sum", stage=stage, **m) * 1e6 - microseconds) < 1e-3, stage
    in_stages = sum(value("predictd_prediction_stage_duration_seconds_sum", stage=s, **m) for s, _ in stages[1:])
    assert in_stages <= value("predictd_prediction_duration_seconds_sum", **m)
    assert value("predictd_batch_size_bucket", le="1", **m) == 0
    assert value("predictd_batch_size_bucket", le="2", **m) == 3

    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        return
    for text in texts:
        assert sum(len(family.samples) for family in text_string_to_metric_families(text)) > 100


main()
