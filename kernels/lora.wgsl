// The skinny products of LoRA: one side has only R rows or columns. Each invocation owns a 4 x 4 tile
// of c, read and summed as vec4. Offsets are in vec4, because A and B lie in one flat tensor.

struct Params {
  m: u32,
  n: u32,
  k: u32,
  a_offset: u32,
  b_offset: u32,
  c_offset: u32,
  scale: f32,
  accumulate: u32,
  k_per_split: u32,
}
override workgroup_size: u32 = 32;

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

fn store(row: u32, column4: u32, value: vec4<f32>) {
  if (row >= params.m) { return; }
  let i = params.c_offset + row * (params.n / 4u) + column4;
  if (params.accumulate == 1u) { c[i] += params.scale * value; } else { c[i] = params.scale * value; }
}

// c[m, n] = sum_k a[m, k] b[n, k]
@compute @workgroup_size(workgroup_size)
fn nt(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let tile = linear_index(group, groups, lane, workgroup_size);
  let column4 = tile % (params.n / 4u);
  let row = tile / (params.n / 4u) * 4u;
  if (row >= params.m) { return; }
  let k4 = params.k / 4u;
  let last = params.m - 1u;
  let a0 = params.a_offset + row * k4;
  let a1 = params.a_offset + min(row + 1u, last) * k4;
  let a2 = params.a_offset + min(row + 2u, last) * k4;
  let a3 = params.a_offset + min(row + 3u, last) * k4;
  let b0 = params.b_offset + column4 * 4u * k4;
  var c0 = vec4<f32>(0.0);
  var c1 = vec4<f32>(0.0);
  var c2 = vec4<f32>(0.0);
  var c3 = vec4<f32>(0.0);
  for (var i = 0u; i < k4; i++) {
    let w0 = b[b0 + i];
    let w1 = b[b0 + k4 + i];
    let w2 = b[b0 + 2u * k4 + i];
    let w3 = b[b0 + 3u * k4 + i];
    let x0 = a[a0 + i];
    let x1 = a[a1 + i];
    let x2 = a[a2 + i];
    let x3 = a[a3 + i];
    c0 += vec4<f32>(dot(x0, w0), dot(x0, w1), dot(x0, w2), dot(x0, w3));
    c1 += vec4<f32>(dot(x1, w0), dot(x1, w1), dot(x1, w2), dot(x1, w3));
    c2 += vec4<f32>(dot(x2, w0), dot(x2, w1), dot(x2, w2), dot(x2, w3));
    c3 += vec4<f32>(dot(x3, w0), dot(x3, w1), dot(x3, w2), dot(x3, w3));
  }
  store(row, column4, c0);
  store(row + 1u, column4, c1);
  store(row + 2u, column4, c2);
  store(row + 3u, column4, c3);
}

// c[m, n] = sum_k a[m, k] b[k, n]
@compute @workgroup_size(workgroup_size)
fn nn(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let tile = linear_index(group, groups, lane, workgroup_size);
  let n4 = params.n / 4u;
  let column4 = tile % n4;
  let row = tile / n4 * 4u;
  if (row >= params.m) { return; }
  let k4 = params.k / 4u;
  let last = params.m - 1u;
  let a0 = params.a_offset + row * k4;
  let a1 = params.a_offset + min(row + 1u, last) * k4;
  let a2 = params.a_offset + min(row + 2u, last) * k4;
  let a3 = params.a_offset + min(row + 3u, last) * k4;
  var c0 = vec4<f32>(0.0);
  var c1 = vec4<f32>(0.0);
  var c2 = vec4<f32>(0.0);
  var c3 = vec4<f32>(0.0);
  for (var i = 0u; i < k4; i++) {
    let b0 = params.b_offset + i * 4u * n4 + column4;
    let w0 = b[b0];
    let w1 = b[b0 + n4];
    let w2 = b[b0 + 2u * n4];
    let w3 = b[b0 + 3u * n4];
    let x0 = a[a0 + i];
    let x1 = a[a1 + i];
    let x2 = a[a2 + i];
    let x3 = a[a3 + i];
    c0 += x0.x * w0 + x0.y * w1 + x0.z * w2 + x0.w * w3;
    c1 += x1.x * w0 + x1.y * w1 + x1.z * w2 + x1.w * w3;
    c2 += x2.x * w0 + x2.y * w1 + x2.z * w2 + x2.w * w3;
    c3 += x3.x * w0 + x3.y * w1 + x3.z * w2 + x3.w * w3;
  }
  store(row, column4, c0);
  store(row + 1u, column4, c1);
  store(row + 2u, column4, c2);
  store(row + 3u, column4, c3);
}

// c[m, n] = sum over a split's k of a[k, m] b[k, n]; split z writes its own (m, n) when there are several
@compute @workgroup_size(workgroup_size)
fn tn(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let tile = linear_index(group, groups, lane, workgroup_size);
  let n4 = params.n / 4u;
  let m4 = params.m / 4u;
  let row4 = tile % m4;
  let column4 = tile / m4;
  if (column4 >= n4) { return; }
  let first = group.z * params.k_per_split;
  let end = min(first + params.k_per_split, params.k);
  var c0 = vec4<f32>(0.0);
  var c1 = vec4<f32>(0.0);
  var c2 = vec4<f32>(0.0);
  var c3 = vec4<f32>(0.0);
  for (var i = first; i < end; i++) {
    let x = a[params.a_offset + i * m4 + row4];
    let w = b[params.b_offset + i * n4 + column4];
    c0 += x.x * w;
    c1 += x.y * w;
    c2 += x.z * w;
    c3 += x.w * w;
  }
  let row = group.z * params.m + row4 * 4u;
  let out = params.c_offset + row * n4 + column4;
  if (params.accumulate == 1u) {
    c[out] += params.scale * c0;
    c[out + n4] += params.scale * c1;
    c[out + 2u * n4] += params.scale * c2;
    c[out + 3u * n4] += params.scale * c3;
  } else {
    c[out] = params.scale * c0;
    c[out + n4] = params.scale * c1;
    c[out + 2u * n4] = params.scale * c2;
    c[out + 3u * n4] = params.scale * c3;
  }
}

struct SumParams { count: u32, splits: u32, c_offset: u32 }
@group(0) @binding(0) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> sum_target: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> sum_params: SumParams;

// target += the splits' parts, in order
@compute @workgroup_size(workgroup_size)
fn sum_splits(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  if (i >= sum_params.count) { return; }
  var total = vec4<f32>(0.0);
  for (var split = 0u; split < sum_params.splits; split++) {
    total += parts[split * sum_params.count + i];
  }
  sum_target[sum_params.c_offset + i] += total;
}
