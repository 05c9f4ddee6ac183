#!/usr/bin/env python3
"""Trains models/mnist as its recipe says and holds it to its promise: at least 99.3 % of the
10,000 test images within 8 minutes, 99.0 % within 3 by the training's own history; then every
image through POST /predict gives the class that `predictd-train predict` gives, with the
same probabilities within 1e-5.

Usage: check_mnist.py BUILD DATA
"""
import csv, gzip, http.client, json, os, re, shutil, subprocess, sys, time

build, data = sys.argv[1:3]
images = f"{data}/mnist/t10k-images-idx3-ubyte.gz"
out = "build/check-mnist/mnist"
os.environ["PREDICTD_DATA"] = data


def must(true, message):
    print(("ok      " if true else "FAILED  ") + message, flush=True)
    if not true:
        sys.exit(1)


def predictions(answer):
    rows = answer["predictions"]
    return [[float(x) for x in row] for row in rows], answer["labels"]


if not os.path.exists(images):
    sys.exit(f"{images} is not there: see README.md, \"Data\"")
shutil.rmtree("build/check-mnist", ignore_errors=True)
os.makedirs(out)

begin = time.monotonic()
subprocess.run([f"{build}/predictd-train", "fit", "models/mnist/recipe.json", "--out", out],
               check=True)
minutes = (time.monotonic() - begin) / 60
bundle = f"{out}/1/model.safetensors"
report = json.loads(subprocess.check_output(
    [f"{build}/predictd-train", "evaluate", bundle, "--json"]))
must(report["accuracy"] >= 0.993, f"test accuracy {report['accuracy']:.4f}, wanted 0.993")
must(minutes <= 8, f"trained in {minutes:.1f} minutes, allowed 8")
with open(f"{out}/1/history.csv") as history:
    early = [row for row in csv.DictReader(history) if float(row["elapsed_seconds"]) <= 180]
best = max((float(row["validation_accuracy"]) for row in early), default=0)
must(best >= 0.99, f"validation accuracy {best:.4f} within 3 minutes, wanted 0.99")

lines = subprocess.check_output([f"{build}/predictd-train", "predict", bundle, images])
expected = [json.loads(line) for line in lines.splitlines()]
must(len(expected) == 10000, f"predict answers for {len(expected)} images")

server = subprocess.Popen([f"{build}/predictd", "--models", "build/check-mnist", "--port", "0",
                           "--admin-port", "0"], stderr=subprocess.PIPE, text=True)
try:
    port = int(re.search(r'"port": ?(\d+)', server.stderr.readline()).group(1))
    client = http.client.HTTPConnection("127.0.0.1", port)
    with gzip.open(images) as f:
        f.read(16)
        pixels = f.read()
    wrong, worst = 0, 0.0
    for first in range(0, 10000, 100):
        rows = [list(pixels[i * 784:(i + 1) * 784]) for i in range(first, first + 100)]
        client.request("POST", "/predict", json.dumps({"instances": rows}),
                       {"Content-Type": "application/json"})
        got, labels = predictions(json.loads(client.getresponse().read()))
        for row, label, want in zip(got, labels, expected[first:first + 100]):
            wrong += label != want["label"]
            worst = max(worst, *(abs(a - b) for a, b in zip(row, want["prediction"])))
    must(wrong == 0, f"{wrong} of 10,000 served classes differ from those of predict")
    must(worst <= 1e-5, f"largest difference of a probability {worst:.2g}, allowed 1e-5")
finally:
    server.terminate()
    must(server.wait() == 0, "the server drained and left with status 0")
