// Times one other WebGPU library on the products of matmul.ts, in a process of its own; started by
// matmul.ts with --no-lock. The packages are named where no tool looks for imports, so they enter
// neither deno.json nor the lock file.
//   deno run --no-lock -A bench/matmul_competitors.ts jax-js|tfjs '[[M, N, K], …]'
// Prints one JSON list: the best seconds a product.

import { bestSeconds } from "./timing.ts";

const packages = {
  "jax-js": ["npm:@jax-js/jax@0.1.25"],
  tfjs: ["npm:@tensorflow/tfjs@4.22.0", "npm:@tensorflow/tfjs-backend-webgpu@4.22.0"],
};

/** Prepares x (M, K) times w (K, N), both f32, and gives what runs it `count` times to its end. */
type Library = (M: number, N: number, K: number) => (count: number) => Promise<void>;

const ramp = (count: number) => Float32Array.from({ length: count }, (_, i) => (i % 17) / 17 - 0.5);

async function jaxJs(): Promise<Library> {
  const [name] = packages["jax-js"];
  const jax = await import(name);
  await jax.init("webgpu");
  jax.defaultDevice("webgpu");
  const { numpy } = jax;
  return (M, N, K) => {
    const x = numpy.array(ramp(M * K)).reshape([M, K]);
    const w = numpy.array(ramp(K * N)).reshape([K, N]);
    return async (count) => {
      for (let i = 0; i < count; i++) {
        const y = numpy.matmul(x.ref, w.ref);
        await jax.blockUntilReady(i === count - 1 ? y : y.ref);
        if (i < count - 1) y.dispose();
      }
    };
  };
}

async function tfjs(): Promise<Library> {
  const [name, backend] = packages.tfjs;
  const tf = await import(name);
  await import(backend);
  if (!await tf.setBackend("webgpu")) throw new Error("Cannot start tfjs on WebGPU");
  return (M, N, K) => {
    const x = tf.tensor2d(ramp(M * K), [M, K]);
    const w = tf.tensor2d(ramp(K * N), [K, N]);
    return async (count) => {
      for (let i = 0; i < count; i++) {
        const y = tf.matMul(x, w);
        if (i === count - 1) await y.data();
        y.dispose();
      }
    };
  };
}

const [library, shapes] = Deno.args;
const prepare = await (library === "jax-js" ? jaxJs() : tfjs());
const seconds: number[] = [];
for (const [M, N, K] of JSON.parse(shapes)) seconds.push(await bestSeconds(prepare(M, N, K)));
console.log(JSON.stringify(seconds));
Deno.exit();
