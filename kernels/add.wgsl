// Elementwise sums, four elements an invocation.

struct Params { count: u32 }
override workgroup_size: u32 = 64;

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(workgroup_size)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  if (i >= params.count) { return; }
  y[i] = a[i] + b[i];
}
