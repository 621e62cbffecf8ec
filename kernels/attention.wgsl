// The passes of causal attention over packed samples. Scores and probabilities of a head lie sample
// after sample, each a square of its length rounded up to 4, in 4x4 tiles of which those above the
// diagonal are never touched. Each invocation owns a 4x4 tile of its output.

struct Params {
  heads: u32,
  group: u32, // query heads that share a key head
  size: u32, // D / 4
  scale: f32,
  // The part of the square this dispatch works on: head_first.., blocks of rows and where their
  // scores begin (base) in a head's share (share), in vec4.
  head_first: u32,
  head_count: u32,
  first: u32, // job or block
  count: u32,
  base: u32,
  share: u32,
  row_low: u32,
  row_high: u32,
}

// 32 rows of one sample: (first row, the sample's start, its end, where the first row's scores begin)
override block_size: u32 = 32;

fn stride_of(block: vec4<u32>) -> u32 { return (block.z - block.y + 3u) / 4u; }

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>; // (T, H, D)
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>; // (T, KVH, D)
@group(0) @binding(2) var<storage, read> blocks: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> jobs: array<vec2<u32>>; // (block, block of columns)
@group(0) @binding(4) var<storage, read_write> products: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> params: Params;

// products = scale a b^T, on and below the diagonal
@compute @workgroup_size(8, 8)
fn scores(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_id) lane: vec3<u32>,
) {
  let number = group.y * groups.x + group.x;
  if (number >= params.count) { return; }
  let job = jobs[params.first + number];
  let block = blocks[job.x];
  let row = block.x + lane.y * 4u;
  let column = job.y * 8u + lane.x;
  if (row >= block.z || column * 4u > row - block.y) { return; }
  let head = params.head_first + group.z;
  let last = block.z - 1u;
  let kv_heads = params.heads / params.group;
  let kv_head = head / params.group;
  let key = block.y + column * 4u;
  let a0 = (row * params.heads + head) * params.size;
  let a1 = (min(row + 1u, last) * params.heads + head) * params.size;
  let a2 = (min(row + 2u, last) * params.heads + head) * params.size;
  let a3 = (min(row + 3u, last) * params.heads + head) * params.size;
  let b0 = (key * kv_heads + kv_head) * params.size;
  let b1 = (min(key + 1u, last) * kv_heads + kv_head) * params.size;
  let b2 = (min(key + 2u, last) * kv_heads + kv_head) * params.size;
  let b3 = (min(key + 3u, last) * kv_heads + kv_head) * params.size;
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  for (var d = 0u; d < params.size; d++) {
    let keys = mat4x4<f32>(b[b0 + d], b[b1 + d], b[b2 + d], b[b3 + d]);
    s0 += a[a0 + d] * keys;
    s1 += a[a1 + d] * keys;
    s2 += a[a2 + d] * keys;
    s3 += a[a3 + d] * keys;
  }
  let stride = stride_of(block);
  let at = group.z * params.share + block.w - params.base + lane.y * 4u * stride + column;
  products[at] = s0 * params.scale;
  products[at + stride] = s1 * params.scale;
  products[at + 2u * stride] = s2 * params.scale;
  products[at + 3u * stride] = s3 * params.scale;
}

// A row of a head: where it begins in the scores, how many of its columns are seen (0: padding) and
// how many of its vec4 are on or below the diagonal tile (0: there is no such row).
struct Row { at: u32, seen: u32, width: u32 }

fn row_of(number: u32, head: u32, block: vec4<u32>, base: u32, share: u32) -> Row {
  let r = number % block_size;
  let row = block.x + r;
  let tile_row = block.x + r / 4u * 4u;
  var result = Row(head * share + block.w - base + r * stride_of(block), 0u, 0u);
  if (tile_row < block.z) { result.width = (tile_row - block.y) / 4u + 1u; }
  if (row < block.z) { result.seen = row - block.y + 1u; }
  return result;
}

@group(0) @binding(0) var<storage, read> softmax_blocks: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> probs: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> softmax_params: Params;

// Scores become probabilities in place; rows that are padding become 0.
@compute @workgroup_size(workgroup_size)
fn softmax(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let number = linear_index(group, groups, lane, workgroup_size) / lanes_a_row;
  // Invocations past the last row go along with it, because a tree needs them at its barriers.
  let block_number = min(number / block_size, softmax_params.count - 1u);
  let block = softmax_blocks[softmax_params.first + block_number];
  var row = row_of(number, group.z, block, softmax_params.base, softmax_params.share);
  if (number / block_size != block_number) { row.width = 0u; }
  let member = lane % lanes_a_row;
  var maximum = vec4<f32>(-3.4e38);
  let whole = min(row.seen / 4u, row.width);
  for (var i = member; i < whole; i += lanes_a_row) {
    maximum = max(maximum, probs[row.at + i]);
  }
  if (whole < row.width && member == 0u) {
    maximum = max(
      maximum, select(vec4<f32>(-3.4e38), probs[row.at + whole], mask_of(whole, row.seen)));
  }
  let top = row_largest(lane, maximum);
  var sum = vec4<f32>(0.0);
  for (var i = member; i < row.width; i += lanes_a_row) {
    let e = select(vec4<f32>(0.0), exp(probs[row.at + i] - top), mask_of(i, row.seen));
    probs[row.at + i] = e;
    sum += e;
  }
  let total = row_sum(lane, sum);
  let inverse = 1.0 / select(total, 1.0, row.seen == 0u);
  for (var i = member; i < row.width; i += lanes_a_row) { probs[row.at + i] *= inverse; }
}

@group(0) @binding(1) var<storage, read> known_probs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dprobs: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> backward_params: Params;

// dscores = probs (dprobs - sum(probs dprobs)) scale, over dprobs
@compute @workgroup_size(workgroup_size)
fn softmax_backward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let number = linear_index(group, groups, lane, workgroup_size) / lanes_a_row;
  let block_number = min(number / block_size, backward_params.count - 1u);
  let block = softmax_blocks[backward_params.first + block_number];
  var row = row_of(number, group.z, block, backward_params.base, backward_params.share);
  if (number / block_size != block_number) { row.width = 0u; }
  let member = lane % lanes_a_row;
  var sum = vec4<f32>(0.0);
  for (var i = member; i < row.width; i += lanes_a_row) {
    sum += known_probs[row.at + i] * dprobs[row.at + i];
  }
  let delta = row_sum(lane, sum);
  for (var i = member; i < row.width; i += lanes_a_row) {
    dprobs[row.at + i] = known_probs[row.at + i] * (dprobs[row.at + i] - delta) *
      backward_params.scale;
  }
}

@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> apply_params: Params;

// y (T, H, D) = weights b: a query's sum over the keys it sees
@compute @workgroup_size(workgroup_size)
fn sum_keys(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let number = linear_index(group, groups, lane, workgroup_size);
  let size = apply_params.size;
  let per_block = block_size / 4u * size;
  if (number >= apply_params.count * per_block) { return; }
  let block = blocks[apply_params.first + number / per_block];
  let tile = number % per_block / size;
  let column = number % size;
  let row = block.x + tile * 4u;
  if (row >= block.z) { return; }
  let head = apply_params.head_first + group.z;
  let stride = stride_of(block);
  let b_stride = apply_params.heads / apply_params.group * size;
  let last = (block.z - 1u) * b_stride;
  let b_first = head / apply_params.group * size + column;
  var at = group.z * apply_params.share + block.w - apply_params.base + tile * 4u * stride;
  var key = block.y * b_stride;
  let tiles = (row - block.y) / 4u + 1u;
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  for (var i = 0u; i < tiles; i++) {
    let values = mat4x4<f32>(
      b[b_first + key],
      b[b_first + min(key + b_stride, last)],
      b[b_first + min(key + 2u * b_stride, last)],
      b[b_first + min(key + 3u * b_stride, last)],
    );
    s0 += values * weights[at];
    s1 += values * weights[at + stride];
    s2 += values * weights[at + 2u * stride];
    s3 += values * weights[at + 3u * stride];
    at += 1u;
    key += 4u * b_stride;
  }
  let y_stride = apply_params.heads * size;
  let to = row * y_stride + head * size + column;
  y[to] = s0;
  if (row + 1u < block.z) { y[to + y_stride] = s1; }
  if (row + 2u < block.z) { y[to + 2u * y_stride] = s2; }
  if (row + 3u < block.z) { y[to + 3u * y_stride] = s3; }
}

@group(0) @binding(1) var<storage, read> rows: array<vec4<f32>>;

// y (T, KVH, D) = weights^T rows: a key's sum over the queries that see it, of all heads of its group.
// Heads and rows come in parts; all but the first part add to what is there.
@compute @workgroup_size(workgroup_size)
fn sum_queries(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let number = linear_index(group, groups, lane, workgroup_size);
  let size = apply_params.size;
  let per_block = block_size / 4u * size;
  if (number >= apply_params.count * per_block) { return; }
  let block = blocks[number / per_block];
  let tile = number % per_block / size;
  let column = number % size;
  let key = block.x + tile * 4u;
  if (key >= block.z) { return; }
  let kv_head = apply_params.head_first / apply_params.group + group.z;
  let stride = stride_of(block);
  let a_stride = apply_params.heads * size;
  let last = (block.z - 1u) * a_stride;
  // Where the scores of the sample's first row begin; may wrap below zero, and back.
  let square = block.w - (block.x - block.y) * stride - apply_params.base + (key - block.y) / 4u;
  let low = max(key, apply_params.row_low);
  let high = min(block.z, apply_params.row_high);
  let head_low = max(kv_head * apply_params.group, apply_params.head_first);
  let head_high = min(
    (kv_head + 1u) * apply_params.group, apply_params.head_first + apply_params.head_count);
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  for (var head = head_low; head < head_high; head++) {
    let a_first = head * size + column;
    var from_row = low * a_stride;
    var at = (head - apply_params.head_first) * apply_params.share + square +
      (low - block.y) * stride;
    for (var row = low; row < high; row += 4u) {
      let queries = mat4x4<f32>(
        rows[a_first + from_row],
        rows[a_first + min(from_row + a_stride, last)],
        rows[a_first + min(from_row + 2u * a_stride, last)],
        rows[a_first + min(from_row + 3u * a_stride, last)],
      );
      let w = transpose(mat4x4<f32>(
        weights[at], weights[at + stride], weights[at + 2u * stride], weights[at + 3u * stride]));
      s0 += queries * w[0];
      s1 += queries * w[1];
      s2 += queries * w[2];
      s3 += queries * w[3];
      from_row += 4u * a_stride;
      at += 4u * stride;
    }
  }
  let y_stride = apply_params.heads / apply_params.group * size;
  let to = key * y_stride + kv_head * size + column;
  if (apply_params.row_low > 0u || head_low > kv_head * apply_params.group) {
    s0 += y[to];
    if (key + 1u < block.z) { s1 += y[to + y_stride]; }
    if (key + 2u < block.z) { s2 += y[to + 2u * y_stride]; }
    if (key + 3u < block.z) { s3 += y[to + 3u * y_stride]; }
  }
  y[to] = s0;
  if (key + 1u < block.z) { y[to + y_stride] = s1; }
  if (key + 2u < block.z) { y[to + 2u * y_stride] = s2; }
  if (key + 3u < block.z) { y[to + 3u * y_stride] = s3; }
}
