// mnist-mlp behind fastify and onnxruntime-node, two processes. Usage: server.js MODEL.onnx
//
// Prints its port. Ends with its standard input.
'use strict';

const cluster = require('node:cluster');

const WORKERS = 2, IMAGE = 28 * 28, CLASSES = 10;

async function serve() {
    const ort = require('onnxruntime-node');
    const fastify = require('fastify')({ bodyLimit: 64 << 20 });
    const session = await ort.InferenceSession.create(process.argv[2], { intraOpNumThreads: 1 });
    const input = session.inputNames[0], output = session.outputNames[0];

    fastify.get('/health', () => ({ ready: true }));
    fastify.post('/predict', async (request) => {
        const rows = request.body.instances, pixels = new Float32Array(rows.length * IMAGE);
        rows.forEach((row, i) => pixels.set(row, i * IMAGE));
        const image = new ort.Tensor('float32', pixels, [rows.length, 1, 28, 28]);
        const values = (await session.run({ [input]: image }))[output].data;
        const row = (i) => Array.from(values.subarray(i * CLASSES, (i + 1) * CLASSES));
        return { predictions: rows.map((_, i) => row(i)) };
    });
    await fastify.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
}

// A free port for all: the first worker takes one, the others get the same.
function main() {
    const probe = require('node:net').createServer().listen(0, '127.0.0.1', () => {
        const { port } = probe.address();
        probe.close(() => {
            for (let i = 0; i < WORKERS; i++)
                cluster.fork({ PORT: port });
            cluster.on('exit', () => process.exit(1));
            console.log(port);
        });
    });
    process.stdin.on('end', () => process.exit(0)).resume();
}

if (cluster.isPrimary)
    main();
else
    serve();
