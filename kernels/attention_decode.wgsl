// One new token a row against its cached keys and values. An invocation owns 4 positions (or 4
// columns of D) of up to `heads_a_tile` query heads that share a key head.

struct Params {
  rows: u32, // B
  heads: u32,
  kv_heads: u32,
  size: u32, // D / 4
  capacity: u32, // a multiple of 4
  scale: f32,
  limit: u32, // writes: positions a sample may have
}

override heads_a_tile: u32 = 4;

@group(0) @binding(0) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> cached_k: array<vec4<f32>>; // (B, KVH, capacity, D)
@group(0) @binding(3) var<storage, read_write> cached_v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> starts: array<u32>;
@group(0) @binding(5) var<storage, read> row_sources: array<u32>;
@group(0) @binding(6) var<uniform> write_params: Params;

// Copies sample row_sources[b] of k and v (T, KVH, D) to row b, or nothing where that is 0xffffffff.
@compute @workgroup_size(workgroup_size)
fn write(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  let columns = write_params.kv_heads * write_params.size;
  let position = i / columns;
  let sample = row_sources[group.z];
  if (sample == 0xffffffffu) { return; }
  let start = starts[sample];
  if (position >= min(starts[sample + 1u] - start, write_params.limit)) { return; }
  let kv_head = i % columns / write_params.size;
  let from_row = (start + position) * columns + i % columns;
  let to = ((group.z * write_params.kv_heads + kv_head) * write_params.capacity + position) *
    write_params.size + i % write_params.size;
  cached_k[to] = k[from_row];
  cached_v[to] = v[from_row];
}

@group(0) @binding(4) var<storage, read> lengths: array<u32>;
@group(0) @binding(5) var<uniform> append_params: Params;

// Puts k and v (B, KVH, D) at the end of their rows.
@compute @workgroup_size(workgroup_size)
fn append(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  let line = i / append_params.size;
  if (line >= append_params.rows * append_params.kv_heads) { return; }
  let position = lengths[line / append_params.kv_heads];
  if (position >= append_params.capacity) { return; }
  let to = (line * append_params.capacity + position) * append_params.size + i % append_params.size;
  cached_k[to] = k[i];
  cached_v[to] = v[i];
}

@group(0) @binding(0) var<storage, read_write> advanced: array<u32>;
@group(0) @binding(1) var<storage, read> done: array<u32>;
@group(0) @binding(2) var<uniform> advance_params: Params;

@compute @workgroup_size(workgroup_size)
fn advance(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= advance_params.rows || done[id.x] != 0u) { return; }
  advanced[id.x] = min(advanced[id.x] + 1u, advance_params.capacity - 1u);
}

// Positions row b attends to: what is cached, and the new token.
fn seen_by(length: u32, capacity: u32) -> u32 { return min(length + 1u, capacity); }

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>; // (B, H, D)
@group(0) @binding(1) var<storage, read> keys: array<vec4<f32>>; // or values
@group(0) @binding(2) var<storage, read> attended_lengths: array<u32>;
@group(0) @binding(3) var<storage, read_write> products: array<vec4<f32>>; // (B, H, capacity)
@group(0) @binding(4) var<uniform> params: Params;

// products = scale q k^T; x: 4 positions an invocation, y: tiles of heads
@compute @workgroup_size(16, 4)
fn scores(@builtin(global_invocation_id) id: vec3<u32>) {
  let group = params.heads / params.kv_heads;
  let tiles = (group + heads_a_tile - 1u) / heads_a_tile;
  let line = id.y / tiles; // b * KVH + kv head
  if (line >= params.rows * params.kv_heads) { return; }
  let position = id.x * 4u;
  if (position >= seen_by(attended_lengths[line / params.kv_heads], params.capacity)) { return; }
  let in_group = id.y % tiles * heads_a_tile;
  let last = group - in_group - 1u;
  let head = line * group + in_group;
  let q0 = head * params.size;
  let q1 = (head + min(1u, last)) * params.size;
  let q2 = (head + min(2u, last)) * params.size;
  let q3 = (head + min(3u, last)) * params.size;
  let k0 = (line * params.capacity + position) * params.size;
  let k1 = k0 + params.size;
  let k2 = k1 + params.size;
  let k3 = k2 + params.size;
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  for (var d = 0u; d < params.size; d++) {
    let four = mat4x4<f32>(keys[k0 + d], keys[k1 + d], keys[k2 + d], keys[k3 + d]);
    s0 += q[q0 + d] * four;
    if (heads_a_tile > 1u) { s1 += q[q1 + d] * four; }
    if (heads_a_tile > 2u) { s2 += q[q2 + d] * four; }
    if (heads_a_tile > 3u) { s3 += q[q3 + d] * four; }
  }
  let stride = params.capacity / 4u;
  let to = head * stride + id.x;
  products[to] = s0 * params.scale;
  if (heads_a_tile > 1u && last > 0u) { products[to + stride] = s1 * params.scale; }
  if (heads_a_tile > 2u && last > 1u) { products[to + 2u * stride] = s2 * params.scale; }
  if (heads_a_tile > 3u && last > 2u) { products[to + 3u * stride] = s3 * params.scale; }
}

@group(0) @binding(0) var<storage, read> softmax_lengths: array<u32>;
@group(0) @binding(1) var<storage, read_write> probs: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> softmax_params: Params;

// Scores become probabilities in place; the rest of the last four positions becomes 0.
@compute @workgroup_size(workgroup_size)
fn softmax(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let number = linear_index(group, groups, lane, workgroup_size) / lanes_a_row;
  let member = lane % lanes_a_row;
  let first = number * (softmax_params.capacity / 4u);
  var seen = 0u;
  if (number < softmax_params.rows * softmax_params.heads) {
    seen = seen_by(softmax_lengths[number / softmax_params.heads], softmax_params.capacity);
  }
  let width = (seen + 3u) / 4u;
  var maximum = vec4<f32>(-3.4e38);
  for (var i = member; i < width; i += lanes_a_row) {
    maximum = max(maximum, select(vec4<f32>(-3.4e38), probs[first + i], mask_of(i, seen)));
  }
  let top = row_largest(lane, maximum);
  var sum = vec4<f32>(0.0);
  for (var i = member; i < width; i += lanes_a_row) {
    let e = select(vec4<f32>(0.0), exp(probs[first + i] - top), mask_of(i, seen));
    probs[first + i] = e;
    sum += e;
  }
  let inverse = 1.0 / row_sum(lane, sum);
  for (var i = member; i < width; i += lanes_a_row) { probs[first + i] *= inverse; }
}

@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // (B, H, D)

// Sums over positions are cut in `splits`, put together at the end in a fixed tree.
override splits: u32 = 1;
var<workgroup> parts: array<mat4x4<f32>, workgroup_size>;

// y = weights v
@compute @workgroup_size(workgroup_size)
fn sum_values(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let columns = workgroup_size / splits;
  let number = (workgroup.y * groups.x + workgroup.x) * columns + lane % columns;
  let group = params.heads / params.kv_heads;
  let tiles = (group + heads_a_tile - 1u) / heads_a_tile;
  let size = params.size;
  let line = min(number / size / tiles, params.rows * params.kv_heads - 1u);
  let inside = line == number / size / tiles;
  var width = (seen_by(attended_lengths[line / params.kv_heads], params.capacity) + 3u) / 4u;
  if (!inside) { width = 0u; }
  let in_group = number / size % tiles * heads_a_tile;
  let last = group - in_group - 1u;
  let head = line * group + in_group;
  let stride = params.capacity / 4u;
  let w0 = head * stride;
  let w1 = (head + min(1u, last)) * stride;
  let w2 = (head + min(2u, last)) * stride;
  let w3 = (head + min(3u, last)) * stride;
  let split = lane / columns;
  var at = (line * params.capacity + 4u * split) * size + number % size;
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  for (var i = split; i < width; i += splits) {
    let four = mat4x4<f32>(
      keys[at], keys[at + size], keys[at + 2u * size], keys[at + 3u * size]);
    s0 += four * weights[w0 + i];
    if (heads_a_tile > 1u) { s1 += four * weights[w1 + i]; }
    if (heads_a_tile > 2u) { s2 += four * weights[w2 + i]; }
    if (heads_a_tile > 3u) { s3 += four * weights[w3 + i]; }
    at += 4u * splits * size;
  }
  var sums = mat4x4<f32>(s0, s1, s2, s3);
  if (splits > 1u) {
    parts[lane] = sums;
    workgroupBarrier();
    for (var half = splits / 2u; half > 0u; half /= 2u) {
      if (split < half) { parts[lane] += parts[lane + half * columns]; }
      workgroupBarrier();
    }
    sums = parts[lane];
  }
  if (!inside || split > 0u) { return; }
  let to = head * size + number % size;
  y[to] = sums[0];
  if (heads_a_tile > 1u && last > 0u) { y[to + size] = sums[1]; }
  if (heads_a_tile > 2u && last > 1u) { y[to + 2u * size] = sums[2]; }
  if (heads_a_tile > 3u && last > 2u) { y[to + 3u * size] = sums[3]; }
}
