// Rotates each head's halves by its token's angles, in place, one pair an invocation.

struct Params { count: u32, heads: u32, half_size: u32, direction: f32 }
override workgroup_size: u32 = 64;

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
// cos of the D/2 angles of a position, then their sin
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(workgroup_size)
fn rotate(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  if (i >= params.count) { return; }
  let head = i / params.half_size;
  let pair = i % params.half_size;
  let angle = positions[head / params.heads] * params.half_size * 2u + pair;
  let cosine = table[angle];
  let sine = table[angle + params.half_size] * params.direction;
  let low = head * params.half_size * 2u + pair;
  let a = x[low];
  let b = x[low + params.half_size];
  x[low] = a * cosine - b * sine;
  x[low + params.half_size] = b * cosine + a * sine;
}
