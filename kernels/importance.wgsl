// One lane per four elements. Sums are compensated (Kahan): `carry` is what the last addition lost,
// so the error of a sum stays at one rounding however many examples there are. `one` is 1.0: shader
// compilers may take (a + b) - a for b, as lavapipe's does, unless a factor they do not know is between.

struct AccumulateParams { elements: u32, one: f32 }
struct FinishParams { elements: u32, examples: f32 }

override workgroup_size: u32 = 64;

@group(0) @binding(0) var<storage, read> g: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> phi: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> s1: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> s2: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> carry1: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> carry2: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> accumulate_params: AccumulateParams;

fn inside(word: u32, elements: u32) -> vec4<bool> {
  return vec4<u32>(4u * word) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(elements);
}

@compute @workgroup_size(workgroup_size)
fn accumulate(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = (group.y * groups.x + group.x) * workgroup_size + lane;
  let elements = accumulate_params.elements;
  if (4u * word >= elements) { return; }
  let one = accumulate_params.one;
  let valid = inside(word, elements);
  let product = g[word] * phi[word];

  let old1 = s1[word];
  let old_carry1 = carry1[word];
  let step1 = product - old_carry1;
  let new1 = old1 + step1;
  s1[word] = select(old1, new1, valid);
  carry1[word] = select(old_carry1, (one * new1 - old1) - step1, valid);

  let old2 = s2[word];
  let old_carry2 = carry2[word];
  let step2 = product * product - old_carry2;
  let new2 = old2 + step2;
  s2[word] = select(old2, new2, valid);
  carry2[word] = select(old_carry2, (one * new2 - old2) - step2, valid);
}

@group(0) @binding(0) var<storage, read> sum1: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> sum2: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> importance: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> finish_params: FinishParams;

@compute @workgroup_size(workgroup_size)
fn finish(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = (group.y * groups.x + group.x) * workgroup_size + lane;
  if (4u * word >= finish_params.elements) { return; }
  let value = abs(sum1[word] - 0.5 * sum2[word]) / finish_params.examples;
  if (4u * word + 4u <= finish_params.elements) {
    importance[word] = value;
  } else {
    importance[word] = select(importance[word], value, inside(word, finish_params.elements));
  }
}
