// y = silu(gate) * up, four elements an invocation.

struct Params { count: u32 }
override workgroup_size: u32 = 64;

@group(0) @binding(0) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

fn sigmoid(x: vec4<f32>) -> vec4<f32> {
  return 1.0 / (1.0 + exp(-clamp(x, vec4<f32>(-80.0), vec4<f32>(80.0))));
}

@compute @workgroup_size(workgroup_size)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  if (i >= params.count) { return; }
  y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

@group(0) @binding(0) var<storage, read_write> gate_gradient: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> up_gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;

// In place: gate becomes dgate = dy up s (1 + gate (1 - s)), up becomes dup = dy gate s.
@compute @workgroup_size(workgroup_size)
fn backward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  if (i >= params.count) { return; }
  let g = gate_gradient[i];
  let s = sigmoid(g);
  let d = dy[i];
  let u = up_gradient[i];
  gate_gradient[i] = d * u * s * (1.0 + g * (1.0 - s));
  up_gradient[i] = d * g * s;
}
