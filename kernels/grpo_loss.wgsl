// GRPO's per-token loss and its derivative by the new policy's log-probability.
//   ratio = exp(logp - old), surrogate = min(ratio A, clip(ratio, 1 - low, 1 + high) A)
//   kl = exp(ref - logp) - (ref - logp) - 1
//   loss = weight * (beta kl - surrogate)

struct Params { count: u32, low: f32, high: f32, beta: f32, use_old: u32 }
override workgroup_size: u32 = 64;

@group(0) @binding(0) var<storage, read> values: array<vec4<f32>>; // .x = logp
@group(0) @binding(1) var<storage, read> old_values: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> reference_values: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> advantages: array<f32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogp: array<f32>;
// (weighted loss, kl, 1 where the clipped branch was taken, ratio)
@group(0) @binding(6) var<storage, read_write> terms: array<vec4<f32>>;
@group(0) @binding(7) var<uniform> params: Params;

@compute @workgroup_size(workgroup_size)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_index(group, groups, lane, workgroup_size);
  if (i >= params.count) { return; }
  let logp = values[i].x;
  let advantage = advantages[i];
  var ratio = 1.0;
  if (params.use_old == 1u) { ratio = exp(logp - old_values[i].x); }
  let clipped = clamp(ratio, 1.0 - params.low, 1.0 + params.high);
  let is_clipped = ratio * advantage > clipped * advantage;
  let surrogate = select(ratio, clipped, is_clipped) * advantage;
  var derivative = select(-ratio * advantage, 0.0, is_clipped);
  var kl = 0.0;
  if (params.beta != 0.0) {
    let difference = reference_values[i].x - logp;
    let e = exp(difference);
    kl = e - difference - 1.0;
    derivative += params.beta * (1.0 - e);
  }
  dlogp[i] = weights[i] * derivative;
  terms[i] = vec4<f32>(
    weights[i] * (params.beta * kl - surrogate), kl, select(0.0, 1.0, is_clipped), ratio);
}
