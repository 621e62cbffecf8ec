// Weights per bin of the float's bits, in one of three levels: 10 bits (exponent and two bits of
// mantissa), then 11, then 10, each among the elements whose higher bits are the cut's so far.
// `slots` chunks of elements each have a histogram of their own, (slot, 2, bins) u32: low and high
// words of the sum. Bins 1020 up of the first level hold what is not finite or is negative.

struct Params { elements: u32, slots: u32, chunk_words: u32 }

override workgroup_size: u32 = 32;
override bins: u32 = 1024;
override bin_shift: u32 = 21;
/** Bits above the bin's own that must match the prefix; 32 when there are none. */
override prefix_shift: u32 = 32;
/** Every element weighs 1 instead of its mantissa. */
override by_count: bool = false;
/** Only elements whose code is 3 take part. */
override only_shared: bool = false;

@group(0) @binding(0) var<storage, read> importance: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read> state: array<u32>;
@group(0) @binding(3) var<storage, read_write> partials: array<u32>;
@group(0) @binding(4) var<uniform> params: Params;

/** Mantissas as integers, or ones, of four elements; 0 for those that do not take part. */
fn weights(word: u32, bits: vec4<u32>, prefix: u32) -> vec4<u32> {
  let index = vec4<u32>(4u * word) + vec4<u32>(0u, 1u, 2u, 3u);
  var valid = index < vec4<u32>(params.elements);
  if (prefix_shift < 32u) {
    valid = valid & ((bits >> vec4<u32>(prefix_shift & 31u)) == vec4<u32>(prefix));
  }
  if (only_shared) {
    let code = vec4<u32>(codes[word]) >> vec4<u32>(0u, 8u, 16u, 24u);
    valid = valid & ((code & vec4<u32>(3u)) == vec4<u32>(3u));
  }
  if (by_count) { return select(vec4<u32>(0u), vec4<u32>(1u), valid); }
  let hidden = select(vec4<u32>(0x800000u), vec4<u32>(0u), (bits >> vec4<u32>(23u)) == vec4<u32>(0u));
  return select(vec4<u32>(0u), (bits & vec4<u32>(0x7fffffu)) | hidden, valid);
}

fn bins_of(bits: vec4<u32>) -> vec4<u32> {
  let bin = bits >> vec4<u32>(bin_shift);
  if (prefix_shift < 32u) { return bin & vec4<u32>(bins - 1u); }
  return min(bin, vec4<u32>(bins - 1u));
}

// A lane per slot, its histogram in storage: software adapters, where atomics are slow.

// No branch on the weight: it would go either way, which costs more than adding 0 (see compact.wgsl).
fn add(at: u32, weight: u32) {
  let sum = partials[at] + weight;
  partials[at] = sum;
  if (sum < weight) { partials[at + bins] += 1u; }
}

@compute @workgroup_size(workgroup_size)
fn private_histogram(@builtin(global_invocation_id) id: vec3<u32>) {
  let slot = id.x;
  if (slot >= params.slots) { return; }
  let prefix = state[1];
  let base = slot * 2u * bins;
  let words = (params.elements + 3u) / 4u;
  let end = min((slot + 1u) * params.chunk_words, words);
  for (var word = slot * params.chunk_words; word < end; word++) {
    let bits = importance[word];
    let weight = weights(word, bits, prefix);
    if (prefix_shift < 32u && all(weight == vec4<u32>(0u))) { continue; }
    let bin = bins_of(bits) + vec4<u32>(base);
    add(bin.x, weight.x);
    add(bin.y, weight.y);
    add(bin.z, weight.z);
    add(bin.w, weight.w);
  }
}

// A workgroup per slot, its histogram in workgroup memory: GPUs.

var<workgroup> shared_sums: array<atomic<u32>, 4096>;

fn add_shared(bin: u32, weight: u32) {
  if (weight != 0u) {
    let before = atomicAdd(&shared_sums[bin], weight);
    if (before + weight < weight) { atomicAdd(&shared_sums[bin + bins], 1u); }
  }
}

@compute @workgroup_size(workgroup_size)
fn shared_histogram(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let slot = group.x;
  for (var i = lane; i < 2u * bins; i += workgroup_size) { atomicStore(&shared_sums[i], 0u); }
  workgroupBarrier();
  let prefix = state[1];
  let words = (params.elements + 3u) / 4u;
  let end = min((slot + 1u) * params.chunk_words, words);
  for (var word = slot * params.chunk_words + lane; word < end; word += workgroup_size) {
    let bits = importance[word];
    let weight = weights(word, bits, prefix);
    let bin = bins_of(bits);
    add_shared(bin.x, weight.x);
    add_shared(bin.y, weight.y);
    add_shared(bin.z, weight.z);
    add_shared(bin.w, weight.w);
  }
  workgroupBarrier();
  for (var i = lane; i < 2u * bins; i += workgroup_size) {
    partials[slot * 2u * bins + i] = atomicLoad(&shared_sums[i]);
  }
}

// Sums the slots' histograms: a lane per four bins, so that reads of a slot are in one row.

@group(0) @binding(0) var<storage, read> slot_sums: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> totals: array<vec4<u32>>;
@group(0) @binding(2) var<uniform> reduce_params: Params;

@compute @workgroup_size(workgroup_size)
fn reduce(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = bins / 4u;
  if (id.x >= row) { return; }
  var low = vec4<u32>(0u);
  var high = vec4<u32>(0u);
  for (var slot = 0u; slot < reduce_params.slots; slot++) {
    let at = slot * 2u * row + id.x;
    let more = slot_sums[at];
    low += more;
    high += slot_sums[at + row] + select(vec4<u32>(0u), vec4<u32>(1u), low < more);
  }
  totals[id.x] = low;
  totals[id.x + row] = high;
}

// The index of the last of the equal elements that is kept: within the slot where it lies.

const tie_lanes = 64u;
var<workgroup> tie_counts: array<u32, tie_lanes>;

@group(0) @binding(2) var<storage, read_write> found: array<u32>;
@group(0) @binding(3) var<uniform> tie_params: Params;

fn equals(word: u32, threshold: u32) -> vec4<u32> {
  let index = vec4<u32>(4u * word) + vec4<u32>(0u, 1u, 2u, 3u);
  var valid = (index < vec4<u32>(tie_params.elements)) & (importance[word] == vec4<u32>(threshold));
  if (only_shared) {
    let code = vec4<u32>(codes[word]) >> vec4<u32>(0u, 8u, 16u, 24u);
    valid = valid & ((code & vec4<u32>(3u)) == vec4<u32>(3u));
  }
  return select(vec4<u32>(0u), vec4<u32>(1u), valid);
}

@compute @workgroup_size(tie_lanes)
fn find_tie(@builtin(local_invocation_index) lane: u32) {
  let threshold = found[4];
  let slot = found[6];
  let wanted = found[7];
  let words = (tie_params.elements + 3u) / 4u;
  let slot_end = min((slot + 1u) * tie_params.chunk_words, words);
  let each = (tie_params.chunk_words + tie_lanes - 1u) / tie_lanes;
  let begin = min(slot * tie_params.chunk_words + lane * each, slot_end);
  let end = min(begin + each, slot_end);
  var count = 0u;
  for (var word = begin; word < end; word++) {
    let equal = equals(word, threshold);
    count += equal.x + equal.y + equal.z + equal.w;
  }
  tie_counts[lane] = count;
  workgroupBarrier();
  var before = 0u;
  for (var other = 0u; other < lane; other++) { before += tie_counts[other]; }
  if (wanted == 0u || before >= wanted || before + count < wanted) { return; }
  for (var word = begin; word < end; word++) {
    let equal = equals(word, threshold);
    for (var k = 0u; k < 4u; k++) {
      before += equal[k];
      if (equal[k] == 1u && before == wanted) { found[5] = 4u * word + k; }
    }
  }
}
