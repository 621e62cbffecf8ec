// Inverted dropout with a counter-based mask: the same (seed, element) always keeps or drops, so the
// backward makes the mask again instead of storing it. Four elements an invocation.

struct Params { count: u32, seed: u32, threshold: u32, scale: f32, accumulate: u32 }
override workgroup_size: u32 = 64;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> params: Params;

fn mix(value: u32) -> u32 { // lowbias32 (Wellons)
  var h = value;
  h = (h ^ (h >> 16u)) * 0x7feb352du;
  h = (h ^ (h >> 15u)) * 0x846ca68bu;
  return h ^ (h >> 16u);
}

@compute @workgroup_size(workgroup_size)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  if (i >= params.count) { return; }
  let salt = mix(params.seed);
  let drawn = vec4<u32>(
    mix(salt ^ (4u * i)), mix(salt ^ (4u * i + 1u)), mix(salt ^ (4u * i + 2u)), mix(salt ^ (4u * i + 3u)));
  let kept = select(vec4<f32>(0.0), vec4<f32>(params.scale), drawn >= vec4<u32>(params.threshold));
  if (params.accumulate == 1u) { y[i] += x[i] * kept; } else { y[i] = x[i] * kept; }
}
