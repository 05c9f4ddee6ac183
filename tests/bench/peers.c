#include "tests/bench/peers.h"

#include "tests/bench/load.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { START_SECONDS = 60 };

static void add(struct peers *peers, const char *name, const char *const *arguments)
{
    struct server *s = &peers->servers[peers->n];
    *s = server_by_input(arguments);
    peers->names[peers->n++] = name;
    double end = load_now() + START_SECONDS;
    while (!server_is_ready(s)) {
        if (load_now() > end)
            bench_die(name);
        usleep(100000);
    }
}

bool peers_start(struct peers *peers, const char *build, const char *bundle)
{
    char onnx[600], modules[600], command[1300];

    *peers = (struct peers){0};
    snprintf(modules, sizeof modules, "%s/peers/node_modules", build);
    if (access(modules, F_OK) == 0) {
        snprintf(onnx, sizeof onnx, "%s/bench/mnist-mlp.onnx", build);
        snprintf(command, sizeof command,
                 "/usr/bin/python3 tests/bench/peers/write_onnx.py %s %s", bundle, onnx);
        if (system(command) != 0)
            bench_die(command);
        setenv("NODE_PATH", modules, 1);
        add(peers, "fastify, onnxruntime-node",
            (const char *const[]){"node", "tests/bench/peers/server.js", onnx, NULL});
    }
    if (system("/usr/bin/python3 -c 'import fastapi, uvicorn, torch' 2>/dev/null") == 0)
        add(peers, "FastAPI, PyTorch",
            (const char *const[]){"/usr/bin/python3", "tests/bench/peers/server.py", bundle,
                                  NULL});
    return peers->n > 0;
}

void peers_stop(struct peers *peers)
{
    for (int i = 0; i < peers->n; i++)
        server_stop(&peers->servers[i]);
}
