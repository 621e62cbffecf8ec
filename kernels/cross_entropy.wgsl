// Per row of logits: log-probability of the target, log-sum-exp and entropy (forward), and in place
// dlogits = dlogp * (onehot(target) - softmax) (backward). One workgroup a row.

struct Params { rows: u32, columns: u32, valid: u32, temperature: f32 }
override workgroup_size: u32 = 64;

// Columns past the vocabulary pad a row to whole vec4s and count as minus infinity.
fn outside(i: u32, valid: u32) -> vec4<bool> {
  return vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(valid);
}

@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
// (logp, log-sum-exp, entropy, 1 when the target has the largest logit) of each row
@group(0) @binding(2) var<storage, read_write> row_values: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> maxima: array<f32, workgroup_size>;
var<workgroup> sums: array<f32, workgroup_size>;
var<workgroup> weighted: array<f32, workgroup_size>;

@compute @workgroup_size(workgroup_size)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) { return; }
  let count = params.columns / 4u;
  let first = row * count;
  var maximum = vec4<f32>(-3.4e38);
  for (var i = lane; i < count; i += workgroup_size) {
    maximum = max(
      maximum, select(logits[first + i], vec4<f32>(-3.4e38), outside(i, params.valid)));
  }
  maxima[lane] = max(max(maximum.x, maximum.y), max(maximum.z, maximum.w));
  workgroupBarrier();
  for (var half = workgroup_size / 2u; half > 0u; half /= 2u) {
    if (lane < half) { maxima[lane] = max(maxima[lane], maxima[lane + half]); }
    workgroupBarrier();
  }
  let top = maxima[0];
  var sum = vec4<f32>(0.0);
  var product = vec4<f32>(0.0);
  for (var i = lane; i < count; i += workgroup_size) {
    let shifted = (logits[first + i] - top) / params.temperature;
    let e = select(exp(shifted), vec4<f32>(0.0), outside(i, params.valid));
    sum += e;
    product += e * shifted;
  }
  sums[lane] = sum.x + sum.y + sum.z + sum.w;
  weighted[lane] = product.x + product.y + product.z + product.w;
  workgroupBarrier();
  for (var half = workgroup_size / 2u; half > 0u; half /= 2u) {
    if (lane < half) {
      sums[lane] += sums[lane + half];
      weighted[lane] += weighted[lane + half];
    }
    workgroupBarrier();
  }
  if (lane == 0u) {
    let log_sum = log(sums[0]);
    let target_column = targets[row];
    let raw = logits[first + target_column / 4u][target_column % 4u];
    let shifted = (raw - top) / params.temperature;
    let entropy = log_sum - weighted[0] / sums[0];
    row_values[row] = vec4<f32>(
      shifted - log_sum, log_sum + top / params.temperature, entropy, select(0.0, 1.0, raw == top));
  }
}

@group(0) @binding(0) var<storage, read_write> dlogits: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> known_values: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> dlogp: array<f32>;
@group(0) @binding(4) var<uniform> backward_params: Params;

@compute @workgroup_size(workgroup_size)
fn backward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = group.y * groups.x + group.x;
  if (row >= backward_params.rows) { return; }
  let count = backward_params.columns / 4u;
  let first = row * count;
  let inverse_temperature = 1.0 / backward_params.temperature;
  let log_sum = known_values[row].y;
  let factor = dlogp[row] * inverse_temperature;
  let target_column = targets[row];
  for (var i = lane; i < count; i += workgroup_size) {
    let p = exp(dlogits[first + i] * inverse_temperature - log_sum);
    let column = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let onehot = select(vec4<f32>(0.0), vec4<f32>(1.0), column == vec4<u32>(target_column));
    dlogits[first + i] = select(
      factor * (onehot - p), vec4<f32>(0.0), outside(i, backward_params.valid));
  }
}
