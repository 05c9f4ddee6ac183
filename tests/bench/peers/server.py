"""mnist-mlp behind FastAPI and PyTorch, two processes. Usage: server.py BUNDLE

Prints its port. Ends with its standard input."""
import json, os, socket, struct, sys

import torch, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

WORKERS = 2


def read_tensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        elements = bytearray(file.read())
    header.pop("__metadata__")
    tensors = {}
    for name, v in header.items():
        begin, end = v["data_offsets"]
        tensors[name] = torch.frombuffer(elements[begin:end], dtype=torch.float32).reshape(v["shape"])
    return tensors


class Mlp(torch.nn.Module):
    def __init__(self, tensors):
        super().__init__()
        self.factor = tensors["scaled.factor"]
        self.hidden, self.logits = torch.nn.Linear(784, 128), torch.nn.Linear(128, 10)
        self.load_state_dict({f"{layer}.{part}": tensors[f"{layer}.{part}"]
                              for layer in ("hidden", "logits") for part in ("weight", "bias")})

    def forward(self, image):
        return self.logits(torch.relu(self.hidden(image * self.factor))).softmax(1)


class Request(BaseModel):
    instances: list


app = FastAPI()
torch.set_num_threads(1)
model = Mlp(read_tensors(sys.argv[1])).eval()


@app.get("/health")
async def health():
    return {"ready": True}


@app.post("/predict")
async def predict(request: Request):
    with torch.inference_mode():
        return {"predictions": model(torch.tensor(request.instances)).tolist()}


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)     # connections inherit it
    listener.setblocking(False)
    workers = []
    for _ in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            os.close(0)
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
            server.run(sockets=[listener])
            os._exit(0)
        workers.append(pid)
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()
    for pid in workers:
        os.kill(pid, 15)


main()
