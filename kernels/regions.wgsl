// Codes of four elements in a word, lowest byte first: 0 inactive, 1 System 1 only, 2 System 2 only,
// 3 shared. A lane walks one segment: a run of elements within one LoRA tensor. A word that two
// segments share is written by the one that holds its first element; each counts its own elements.

struct MarkParams { segments: u32, elements: u32 }

override workgroup_size: u32 = 32;

@group(0) @binding(0) var<storage, read> importance1: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> importance2: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> selection1: array<u32>;
@group(0) @binding(3) var<storage, read> selection2: array<u32>;
@group(0) @binding(4) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> codes: array<u32>;
@group(0) @binding(6) var<storage, read_write> counts: array<vec4<u32>>;
@group(0) @binding(7) var<uniform> mark_params: MarkParams;

/** 1 where the element is kept. */
fn kept(bits: vec4<u32>, index: vec4<u32>, threshold: u32, last: u32) -> vec4<u32> {
  let limit = vec4<u32>(threshold);
  let above = bits > limit;
  let tied = (bits == limit) & (index <= vec4<u32>(last));
  return select(vec4<u32>(0u), vec4<u32>(1u), above | tied);
}

@compute @workgroup_size(workgroup_size)
fn mark(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let segment = (group.y * groups.x + group.x) * workgroup_size + lane;
  if (segment >= mark_params.segments) { return; }
  let begin = segments[segment].x;
  let end = segments[segment].y;
  let threshold1 = selection1[4];
  let last1 = selection1[5];
  let threshold2 = selection2[4];
  let last2 = selection2[5];
  // Counts of four elements side by side, so that the loop has no scatter.
  var in1 = vec4<u32>(0u);
  var in2 = vec4<u32>(0u);
  var both = vec4<u32>(0u);
  for (var word = begin / 4u; word < (end + 3u) / 4u; word++) {
    let index = vec4<u32>(4u * word) + vec4<u32>(0u, 1u, 2u, 3u);
    let exists = select(vec4<u32>(0u), vec4<u32>(1u), index < vec4<u32>(mark_params.elements));
    let one = kept(importance1[word], index, threshold1, last1) * exists;
    let two = kept(importance2[word], index, threshold2, last2) * exists;
    if (4u * word >= begin) {
      let code = one | (two << vec4<u32>(1u));
      codes[word] = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
    }
    let own = select(vec4<u32>(0u), vec4<u32>(1u),
      (index >= vec4<u32>(begin)) & (index < vec4<u32>(end)));
    in1 += one * own;
    in2 += two * own;
    both += one * two * own;
  }
  let count1 = in1.x + in1.y + in1.z + in1.w;
  let count2 = in2.x + in2.y + in2.z + in2.w;
  let shared_count = both.x + both.y + both.z + both.w;
  counts[segment] = vec4<u32>(
    end - begin - (count1 + count2 - shared_count),
    count1 - shared_count,
    count2 - shared_count,
    shared_count,
  );
}

// active: bit 0 in phase 1, bit 1 in phase 2. A shared element keeps a bit where that phase's cut
// keeps it; the others keep their code as it is.

@group(0) @binding(4) var<storage, read> regions: array<u32>;
@group(0) @binding(5) var<storage, read_write> active_mask: array<u32>;
@group(0) @binding(6) var<uniform> words: vec4<u32>;

@compute @workgroup_size(workgroup_size)
fn activate(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = (group.y * groups.x + group.x) * workgroup_size + lane;
  if (word >= words.x) { return; }
  let index = vec4<u32>(4u * word) + vec4<u32>(0u, 1u, 2u, 3u);
  let code = (vec4<u32>(regions[word]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(3u);
  let one = kept(importance1[word], index, selection1[4], selection1[5]);
  let two = kept(importance2[word], index, selection2[4], selection2[5]);
  let bits = select(code, one | (two << vec4<u32>(1u)), code == vec4<u32>(3u));
  active_mask[word] = bits.x | (bits.y << 8u) | (bits.z << 16u) | (bits.w << 24u);
}
