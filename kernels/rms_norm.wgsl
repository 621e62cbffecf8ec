// y[t] = x[t] / rms(x[t]) * weight, one row an invocation: rows are many and short.

struct Params { rows: u32, columns: u32, eps: f32, accumulate: u32 }

override workgroup_size: u32 = 64;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> forward_params: Params;

fn inverse_rms(first: u32, count: u32, columns: u32, eps: f32) -> f32 {
  var sum = vec4<f32>(0.0);
  for (var i = 0u; i < count; i++) { sum += x[first + i] * x[first + i]; }
  return 1.0 / sqrt((sum.x + sum.y + sum.z + sum.w) / f32(columns) + eps);
}

@compute @workgroup_size(workgroup_size)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * workgroup_size + lane;
  if (row >= forward_params.rows) { return; }
  let count = forward_params.columns / 4u;
  let first = row * count;
  let scale = inverse_rms(first, count, forward_params.columns, forward_params.eps);
  for (var i = 0u; i < count; i++) { y[first + i] = x[first + i] * scale * weight[i]; }
}

@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> backward_params: Params;

// dx = s * (w dy - x * s^2 * mean(x w dy)), s = 1 / rms(x)
@compute @workgroup_size(workgroup_size)
fn backward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * workgroup_size + lane;
  if (row >= backward_params.rows) { return; }
  let count = backward_params.columns / 4u;
  let first = row * count;
  let scale = inverse_rms(first, count, backward_params.columns, backward_params.eps);
  var dot_sum = 0.0;
  for (var i = 0u; i < count; i++) { dot_sum += dot(x[first + i], weight[i] * dy[first + i]); }
  let correction = scale * scale * dot_sum / f32(backward_params.columns);
  for (var i = 0u; i < count; i++) {
    let value = scale * (weight[i] * dy[first + i] - x[first + i] * correction);
    if (backward_params.accumulate == 1u) { dx[first + i] += value; } else { dx[first + i] = value; }
  }
}
