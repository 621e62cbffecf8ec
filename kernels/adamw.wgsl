// One lane per four active elements. phi and g are whole vectors, m and v hold active elements only.

struct Params { count: u32 }

override workgroup_size: u32 = 64;

@group(0) @binding(0) var<storage, read_write> phi: array<f32>;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> indices: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> v: array<vec4<f32>>;
/** 1 - lr * weight_decay, 1 - beta1, beta2, 1 - beta2, lr / (1 - beta1^t), sqrt(1 - beta2^t), eps */
@group(0) @binding(5) var<storage, read> hyper: array<f32>;
@group(0) @binding(6) var<storage, read> outcome: array<f32>;
@group(0) @binding(7) var<uniform> params: Params;

@compute @workgroup_size(workgroup_size)
fn step(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = (group.y * groups.x + group.x) * workgroup_size + lane;
  if (4u * word >= params.count || outcome[2] != 0.0) { return; }
  let valid = vec4<u32>(4u * word) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.count);
  // Past the end an index may be anything; element 0 stands in and is not written.
  let at = select(vec4<u32>(0u), indices[word], valid);
  let clipped = outcome[1] * vec4<f32>(g[at.x], g[at.y], g[at.z], g[at.w]);
  let old_m = m[word];
  let old_v = v[word];
  let new_m = old_m + hyper[1] * (clipped - old_m);
  let new_v = hyper[2] * old_v + hyper[3] * clipped * clipped;
  m[word] = select(old_m, new_m, valid);
  v[word] = select(old_v, new_v, valid);
  let old_phi = vec4<f32>(phi[at.x], phi[at.y], phi[at.z], phi[at.w]);
  let denominator = sqrt(new_v) / hyper[5] + vec4<f32>(hyper[6]);
  let new_phi = hyper[0] * old_phi - hyper[4] * (new_m / denominator);
  phi[at.x] = new_phi.x; // the first of the four always exists
  if (valid.y) { phi[at.y] = new_phi.y; }
  if (valid.z) { phi[at.z] = new_phi.z; }
  if (valid.w) { phi[at.w] = new_phi.w; }
}
