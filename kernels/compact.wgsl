// Indices of the bytes that have any of `bits` set, ascending: a count per segment, a scan over segments, then
// each segment's lane writes its own run.

struct Params { segments: u32, bits: u32 }

override workgroup_size: u32 = 32;

@group(0) @binding(0) var<storage, read> codes: array<u32>;
@group(0) @binding(1) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;
@group(0) @binding(3) var<uniform> count_params: Params;

/** A 1 at the bottom of each byte of the word that lies in [begin, end) and has one of the bits. */
fn set_bytes(word: u32, begin: u32, end: u32, bits: u32) -> u32 {
  let found = codes[word] & (bits * 0x01010101u);
  var bytes = (found | (found >> 1u)) & 0x01010101u;
  if (4u * word < begin) { bytes &= 0xffffffffu << (8u * (begin - 4u * word)); }
  if (4u * word + 4u > end) { bytes &= (1u << (8u * (end - 4u * word))) - 1u; }
  return bytes;
}

@compute @workgroup_size(workgroup_size)
fn count(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let segment = (group.y * groups.x + group.x) * workgroup_size + lane;
  if (segment >= count_params.segments) { return; }
  let begin = segments[segment].x;
  let end = segments[segment].y;
  var sum = 0u;
  for (var word = begin / 4u; word < (end + 3u) / 4u; word++) {
    sum += countOneBits(set_bytes(word, begin, end, count_params.bits));
  }
  counts[segment] = sum;
}

const scan_lanes = 256u;
var<workgroup> lane_sums: array<u32, scan_lanes>;

@group(0) @binding(0) var<storage, read_write> sums: array<u32>;
@group(0) @binding(1) var<uniform> scan_params: Params;

/** Counts become the sums of those before; the total follows them. */
@compute @workgroup_size(scan_lanes)
fn scan(@builtin(local_invocation_index) lane: u32) {
  let total = scan_params.segments;
  let each = (total + scan_lanes - 1u) / scan_lanes;
  let begin = min(lane * each, total);
  let end = min(begin + each, total);
  var sum = 0u;
  for (var i = begin; i < end; i++) { sum += sums[i]; }
  lane_sums[lane] = sum;
  workgroupBarrier();
  var before = 0u;
  for (var other = 0u; other < lane; other++) { before += lane_sums[other]; }
  for (var i = begin; i < end; i++) {
    let here = sums[i];
    sums[i] = before;
    before += here;
  }
  if (lane == scan_lanes - 1u) { sums[total] = before; }
}

@group(0) @binding(2) var<storage, read> starts: array<u32>;
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;
@group(0) @binding(4) var<uniform> write_params: Params;

@compute @workgroup_size(workgroup_size)
fn write(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let segment = (group.y * groups.x + group.x) * workgroup_size + lane;
  if (segment >= write_params.segments) { return; }
  let begin = segments[segment].x;
  let end = segments[segment].y;
  var at = starts[segment];
  // Every lane stores every time, what is not listed into one word behind the list: software adapters
  // branch on each lane of a store, and a branch that goes either way costs more than the store.
  let spare = starts[write_params.segments];
  for (var word = begin / 4u; word < (end + 3u) / 4u; word++) {
    let bytes = set_bytes(word, begin, end, write_params.bits);
    let one = (vec4<u32>(bytes) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(1u);
    let after = vec4<u32>(0u, one.x, one.x + one.y, one.x + one.y + one.z) + vec4<u32>(at);
    let to = select(vec4<u32>(spare), after, one == vec4<u32>(1u));
    indices[to.x] = 4u * word;
    indices[to.y] = 4u * word + 1u;
    indices[to.z] = 4u * word + 2u;
    indices[to.w] = 4u * word + 3u;
    at += countOneBits(bytes);
  }
}
