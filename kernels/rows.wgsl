// Gathers rows of x by their numbers, or puts them back; four elements an invocation.

struct Params { count: u32, columns: u32 }
override workgroup_size: u32 = 64;

@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> numbers: array<u32>;
@group(0) @binding(2) var<storage, read_write> target_rows: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(workgroup_size)
fn gather(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  if (i >= params.count) { return; }
  let row = i / params.columns;
  target_rows[i] = source[numbers[row] * params.columns + i % params.columns];
}

@compute @workgroup_size(workgroup_size)
fn scatter(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  if (i >= params.count) { return; }
  let row = i / params.columns;
  target_rows[numbers[row] * params.columns + i % params.columns] = source[i];
}
