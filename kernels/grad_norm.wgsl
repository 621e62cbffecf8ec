// Sum of squares of the active gradients in a fixed shape: lanes stride over the active elements, a
// workgroup sums its lanes as a tree, one workgroup sums the workgroups' sums.

struct Params { count: u32, groups: u32 }

const workgroup_size = 64u;

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
/** (groups, 2): sum of squares, and 1.0 where a gradient is NaN or Inf. */
@group(0) @binding(2) var<storage, read_write> partials: array<vec2<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> tree: array<vec2<f32>, workgroup_size>;

fn sum_lanes(lane: u32, value: vec2<f32>) -> vec2<f32> {
  tree[lane] = value;
  workgroupBarrier();
  for (var half = workgroup_size / 2u; half > 0u; half /= 2u) {
    if (lane < half) { tree[lane] += tree[lane + half]; }
    workgroupBarrier();
  }
  return tree[0];
}

fn is_finite(value: f32) -> bool {
  return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}

@compute @workgroup_size(workgroup_size)
fn squares(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  var sum = 0.0;
  var bad = 0.0;
  let stride = params.groups * workgroup_size;
  for (var i = group.x * workgroup_size + lane; i < params.count; i += stride) {
    let value = g[indices[i]];
    if (!is_finite(value)) { bad = 1.0; }
    sum += value * value;
  }
  let total = sum_lanes(lane, vec2<f32>(sum, bad));
  if (lane == 0u) { partials[group.x] = total; }
}

@group(0) @binding(0) var<storage, read> group_sums: array<vec2<f32>>;
/** lr, beta1, ... of the step, as adamw.ts lays them out; the largest norm is word 7. */
@group(0) @binding(1) var<storage, read> hyper: array<f32>;
/** norm, clip coefficient, 1.0 where this step must not be taken, steps refused so far. */
@group(0) @binding(2) var<storage, read_write> outcome: array<f32>;
@group(0) @binding(3) var<uniform> finish_params: Params;

@compute @workgroup_size(workgroup_size)
fn finish(@builtin(local_invocation_index) lane: u32) {
  var sum = vec2<f32>(0.0);
  for (var i = lane; i < finish_params.groups; i += workgroup_size) { sum += group_sums[i]; }
  let total = sum_lanes(lane, sum);
  if (lane != 0u) { return; }
  let norm = sqrt(total.x);
  let largest = hyper[7];
  outcome[0] = norm;
  outcome[1] = 1.0;
  if (largest > 0.0) { outcome[1] = min(1.0, largest / (norm + 1e-6)); }
  outcome[2] = 0.0;
  if (total.y > 0.0 || !is_finite(total.x)) {
    outcome[2] = 1.0;
    outcome[3] += 1.0;
  }
}
