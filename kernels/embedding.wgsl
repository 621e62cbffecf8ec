// x[t] = row tokens[t] of the table, four elements an invocation; rows of another range are left alone.
// `weight4` comes from the piece for the table's type.

struct Params { count: u32, columns4: u32, first: u32, rows: u32 }
override workgroup_size: u32 = 64;

@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(workgroup_size)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  if (i >= params.count) { return; }
  let row = tokens[i / params.columns4] - params.first;
  if (row >= params.rows) { return; }
  x[i] = weight4(row * params.columns4 + i % params.columns4);
}
