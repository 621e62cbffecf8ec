import { assert, assertEquals } from "@std/assert";
import {
  attention,
  attentionBackward,
  attentionWorkspaceBytes,
  createAttentionWorkspace,
  releaseAttentionWorkspace,
  releaseSegments,
  uploadSegments,
} from "../../kernels/attention.ts";
import { assertThrows } from "../asserts.ts";
import { asHardware } from "../as_hardware.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";
import {
  attentionBackwardReference,
  attentionReference,
  type AttentionShape,
} from "../../kernels/reference/attention.ts";
import { centralDifferences, dot } from "../reference/differences.ts";

const startsOf = (lengths: number[]) => {
  const starts = new Uint32Array(lengths.length + 1);
  lengths.forEach((length, s) => starts[s + 1] = starts[s] + length);
  return starts;
};

Deno.test("attention reference: the analytic backward is the central difference", () => {
  const shape = { H: 4, KVH: 2, D: 4, segmentStarts: startsOf([3, 1]) };
  const q = normal(4 * 16, 1), k = normal(4 * 8, 2), v = normal(4 * 8, 3), dy = normal(4 * 16, 4);
  const { dq, dk, dv } = attentionBackwardReference(q, k, v, dy, shape);
  const loss = (a: ArrayLike<number>, b: ArrayLike<number>, c: ArrayLike<number>) =>
    dot(attentionReference(a, b, c, shape), dy);
  assertClose(centralDifferences((x) => loss(x, k, v), q), dq, 1e-15);
  assertClose(centralDifferences((x) => loss(q, x, v), k), dk, 1e-15);
  assertClose(centralDifferences((x) => loss(q, k, x), v), dv, 1e-15);
});

async function outputs(shape: AttentionShape, limitBytes?: number, fresh = false) {
  const gpu = await testGpu();
  const { H, KVH, D } = shape;
  const segmentStarts = Uint32Array.from(shape.segmentStarts);
  const T = segmentStarts[segmentStarts.length - 1];
  const values = {
    q: normal(T * H * D, 1, 2),
    k: normal(T * KVH * D, 2, 2),
    v: normal(T * KVH * D, 3),
    dy: normal(T * H * D, 4),
  };
  const segments = uploadSegments(gpu, segmentStarts);
  const workspace = createAttentionWorkspace(gpu, segments, H, limitBytes);
  const inputs = {
    q: gpu.upload("q", values.q, [T, H, D]),
    k: gpu.upload("k", values.k, [T, KVH, D]),
    v: gpu.upload("v", values.v, [T, KVH, D]),
    dy: gpu.upload("dy", values.dy, [T, H, D]),
  };
  const y = guarded(gpu, "y", [T, H, D]);
  const dq = guarded(gpu, "dq", [T, H, D]);
  const dk = guarded(gpu, "dk", [T, KVH, D]);
  const dv = guarded(gpu, "dv", [T, KVH, D]);
  attention(gpu, { ...inputs, y, segments, workspace });
  attentionBackward(gpu, { ...inputs, dq, dk, dv, segments, workspace }, { fresh });
  const found = {
    y: await readGuarded(gpu, y),
    dq: await readGuarded(gpu, dq),
    dk: await readGuarded(gpu, dk),
    dv: await readGuarded(gpu, dv),
  };
  releaseAttentionWorkspace(gpu, workspace);
  releaseSegments(gpu, segments);
  gpu.release(...Object.values(inputs), y, dq, dk, dv);
  return { values, found, parts: workspace.parts.length };
}

function check(shape: AttentionShape, { values, found }: Awaited<ReturnType<typeof outputs>>) {
  const { q, k, v, dy } = values;
  const wanted = attentionBackwardReference(q, k, v, dy, shape);
  assertClose(found.y, attentionReference(q, k, v, shape), 1e-7, "y");
  assertClose(found.dv, wanted.dv, 1e-7, "dv");
  // A lone token's dq and dk are zero but for rounding, which NMSE cannot weigh.
  if (wanted.dq.some((x) => x !== 0)) {
    assertClose(found.dq, wanted.dq, 1e-7, "dq");
    assertClose(found.dk, wanted.dk, 1e-7, "dk");
  }
}

const cases: [number, number, number, number[]][] = [
  [1, 1, 4, [1]],
  [2, 1, 8, [3]],
  [4, 2, 16, [5, 1, 33, 64]],
  [9, 3, 64, [70]],
  [4, 4, 32, [31, 32, 2, 40]],
  [8, 1, 80, [37]],
  [2, 2, 96, [18, 21]],
  [3, 1, 128, [35, 4]],
  [1, 1, 256, [9]],
];
for (const [H, KVH, D, lengths] of cases) {
  Deno.test(`attention forward and backward, H ${H} KVH ${KVH} D ${D}, samples of ${lengths}`, async () => {
    const shape = { H, KVH, D, segmentStarts: startsOf(lengths) };
    check(shape, await outputs(shape));
  });
}

Deno.test("attention as on hardware GPUs", async () => {
  const shape = { H: 4, KVH: 2, D: 16, segmentStarts: startsOf([1, 33, 142]) };
  check(shape, await asHardware(() => outputs(shape)));
});

Deno.test("attention with the forward's probabilities kept gives the same bits", async () => {
  const shape = { H: 4, KVH: 2, D: 16, segmentStarts: startsOf([50, 17]) };
  assertEquals((await outputs(shape, undefined, true)).found, (await outputs(shape)).found);
});

Deno.test("attention in parts of heads, and of rows", async () => {
  const shape = { H: 6, KVH: 2, D: 8, segmentStarts: startsOf([30, 110, 41]) };
  const heads = await outputs(shape, 4 * 4 * (32 * 32 + 112 * 112 + 44 * 44), true);
  assertEquals(heads.parts, 2);
  check(shape, heads);
  const rows = await outputs(shape, 4 * 40 * 112);
  assert(rows.parts > 12);
  check(shape, rows);
});

Deno.test("attention over more blocks than workgroups in a dimension", async () => {
  const gpu = await testGpu();
  const T = 66_000;
  const v = normal(T * 4, 3);
  const segments = uploadSegments(gpu, Uint32Array.from({ length: T + 1 }, (_, t) => t));
  const workspace = createAttentionWorkspace(gpu, segments, 1);
  const q = gpu.upload("q", normal(T * 4, 1), [T, 1, 4]);
  const y = guarded(gpu, "y", [T, 1, 4]);
  attention(gpu, { q, k: q, v: gpu.upload("v", v, [T, 1, 4]), y, segments, workspace });
  assertClose(await readGuarded(gpu, y), v);
  const dv = guarded(gpu, "dv", [T, 1, 4]);
  const dq = gpu.tensor("dq", [T, 1, 4]), dk = gpu.tensor("dk", [T, 1, 4]);
  attentionBackward(gpu, { q, k: q, v: q, dy: y, dq, dk, dv, segments, workspace });
  assertClose(await readGuarded(gpu, dv), v);
});

Deno.test("attention refuses what does not fit", async () => {
  const gpu = await testGpu();
  assertThrows(
    () => uploadSegments(gpu, new Uint32Array([0, 3, 3])),
    /sample 1: it has tokens 3 to 3/,
  );
  const segments = uploadSegments(gpu, new Uint32Array([0, 3]));
  const workspace = createAttentionWorkspace(gpu, segments, 3);
  const q = gpu.tensor("q", [3, 3, 8]), k = gpu.tensor("k", [3, 2, 8]);
  assertThrows(
    () => attention(gpu, { q, k, v: k, y: q, segments, workspace }),
    /Cannot attend from \(3,3,8\)/,
  );
});

Deno.test("attentionWorkspaceBytes is what the workspace takes", async () => {
  const gpu = await testGpu();
  const starts = new Uint32Array([0, 3, 10]);
  assertEquals(attentionWorkspaceBytes(gpu, starts, 2, true), 2 * 2 * 4 * (4 * 4 + 8 * 8));
  const segments = uploadSegments(gpu, starts);
  assertEquals(
    attentionWorkspaceBytes(gpu, starts, 2, false),
    createAttentionWorkspace(gpu, segments, 2).probs.sizeBytes,
  );
});
