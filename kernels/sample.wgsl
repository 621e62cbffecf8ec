// One workgroup samples one row of logits. Logits are compared by their bits, as words that order
// like the floats; what is not finite is the word 0 and is never sampled.

struct Params {
  rows: u32,
  columns: u32, // of a row of logits
  vocabulary: u32, // of them tokens
  max_new: u32,
  temperature: f32, // 0: greedy
  top_k: u32, // 0: off
  top_p: f32, // 1: off
  log_min_p: f32, // very low: off
  seed: u32,
  eos_count: u32,
}

override workgroup_size: u32 = 64;
const bin_count = 32u;

@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>;
// The rows' sequence numbers, then the tokens that end one
@group(0) @binding(1) var<storage, read> known: array<u32>;
@group(0) @binding(2) var<storage, read_write> outputs: array<u32>; // (B, max_new)
@group(0) @binding(3) var<storage, read_write> counts: array<u32>; // tokens a row has
@group(0) @binding(4) var<storage, read_write> next: array<u32>;
@group(0) @binding(5) var<storage, read_write> done: array<u32>;
@group(0) @binding(6) var<storage, read_write> errors: array<u32>;
// Words of each row, those of lane l at l, l + workgroup_size, …
@group(0) @binding(7) var<storage, read_write> lists: array<u32>;
@group(0) @binding(8) var<uniform> params: Params;

var<workgroup> shared_words: array<u32, workgroup_size>;
var<workgroup> shared_words_2: array<u32, workgroup_size>;
var<workgroup> shared_floats: array<f32, workgroup_size>;
// A histogram a lane, side by side
var<workgroup> bins: array<f32, bin_count * workgroup_size>;
var<workgroup> found_bin: u32;
var<workgroup> found_above: f32;
var<workgroup> found_total: f32;

fn word_of(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) { return 0u; }
  if (bits == 0x80000000u) { return 0x80000000u; } // -0 is 0
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn float_of(word: u32) -> f32 {
  return bitcast<f32>(select(~word, word & 0x7fffffffu, (word & 0x80000000u) != 0u));
}

fn words_of(i: u32, first: u32) -> vec4<u32> {
  let x = logits[first + i];
  let words = vec4<u32>(word_of(x.x), word_of(x.y), word_of(x.z), word_of(x.w));
  let column = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
  return select(vec4<u32>(0u), words, column < vec4<u32>(params.vocabulary));
}

fn largest(lane: u32, mine: u32) -> u32 {
  shared_words[lane] = mine;
  workgroupBarrier();
  for (var half = workgroup_size / 2u; half > 0u; half /= 2u) {
    if (lane < half) { shared_words[lane] = max(shared_words[lane], shared_words[lane + half]); }
    workgroupBarrier();
  }
  let result = shared_words[0];
  workgroupBarrier();
  return result;
}

fn sum_of(lane: u32, mine: f32) -> f32 {
  shared_floats[lane] = mine;
  workgroupBarrier();
  for (var half = workgroup_size / 2u; half > 0u; half /= 2u) {
    if (lane < half) { shared_floats[lane] += shared_floats[lane + half]; }
    workgroupBarrier();
  }
  let result = shared_floats[0];
  workgroupBarrier();
  return result;
}

// What a token weighs in the search: 1, or its probability up to a factor.
fn weight_of(word: u32, top: f32, by_mass: bool) -> f32 {
  if (by_mass) { return exp((float_of(word) - top) / params.temperature); }
  return 1.0;
}

fn bin_of(word: u32, top: f32, width: f32) -> u32 {
  return u32(clamp((top - float_of(word)) / width, 0.0, f32(bin_count - 1u)));
}

// The largest word t >= low such that the words >= t weigh at least `wanted` (by mass: that share of
// all words >= low); `low` when even all do not. A histogram finds the bin t is in, then the words of
// that bin alone are listed and halved until one value is left.
fn threshold(
  lane: u32, row: u32, count: u32, top: f32, width: f32, low: u32, by_mass: bool, wanted: f32,
) -> u32 {
  let first = row * (params.columns / 4u);
  for (var b = 0u; b < bin_count; b++) { bins[b * workgroup_size + lane] = 0.0; }
  for (var i = lane; i < count; i += workgroup_size) {
    let words = words_of(i, first);
    for (var c = 0u; c < 4u; c++) {
      if (words[c] >= low) {
        bins[bin_of(words[c], top, width) * workgroup_size + lane] +=
          weight_of(words[c], top, by_mass);
      }
    }
  }
  workgroupBarrier();
  for (var b = lane; b < bin_count; b += workgroup_size) {
    var sum = 0.0;
    for (var l = 0u; l < workgroup_size; l++) { sum += bins[b * workgroup_size + l]; }
    bins[b * workgroup_size] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var total = 0.0;
    for (var b = 0u; b < bin_count; b++) { total += bins[b * workgroup_size]; }
    let goal = select(wanted, wanted * total, by_mass);
    var above = 0.0;
    var b = 0u;
    while (b + 1u < bin_count && above + bins[b * workgroup_size] < goal) {
      above += bins[b * workgroup_size];
      b += 1u;
    }
    found_bin = b;
    found_above = above;
    found_total = goal;
  }
  workgroupBarrier();
  let bin = found_bin;
  let above = found_above;
  let goal = found_total;
  workgroupBarrier();

  let list = row * params.columns + lane;
  var listed = 0u;
  var highest = 0u;
  var lowest = 0u; // inverted, so that the largest is the lowest
  for (var i = lane; i < count; i += workgroup_size) {
    let words = words_of(i, first);
    for (var c = 0u; c < 4u; c++) {
      if (words[c] >= low && bin_of(words[c], top, width) == bin) {
        lists[list + listed * workgroup_size] = words[c];
        listed += 1u;
        highest = max(highest, words[c]);
        lowest = max(lowest, ~words[c]);
      }
    }
  }
  var high_word = largest(lane, highest);
  var low_word = ~largest(lane, lowest);
  if (high_word < low_word) { return low; }
  // 32 halvings always end on one word.
  for (var round = 0u; round < 32u; round++) {
    let middle = low_word + (high_word - low_word) / 2u + ((high_word - low_word) & 1u);
    var mine = 0.0;
    if (low_word < high_word) {
      for (var n = 0u; n < listed; n++) {
        let word = lists[list + n * workgroup_size];
        if (word >= middle) { mine += weight_of(word, top, by_mass); }
      }
    }
    let sum = above + sum_of(lane, mine);
    if (low_word < high_word) {
      if (sum >= goal) { low_word = middle; } else { high_word = middle - 1u; }
    }
  }
  return low_word;
}

@compute @workgroup_size(workgroup_size)
fn sample(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) { return; }
  let first = row * (params.columns / 4u);
  let taken = counts[row];
  // Rows that are done go through the barriers with nothing to do.
  let count = select((params.vocabulary + 3u) / 4u, 0u, done[row] != 0u || taken >= params.max_new);

  var highest = 0u;
  var lowest = 0u;
  for (var i = lane; i < count; i += workgroup_size) {
    let words = words_of(i, first);
    for (var c = 0u; c < 4u; c++) {
      highest = max(highest, words[c]);
      if (words[c] != 0u) { lowest = max(lowest, ~words[c]); }
    }
  }
  let top_word = largest(lane, highest);
  let top = float_of(top_word);
  var low = max(1u, select(1u, top_word, params.temperature == 0.0));
  if (params.temperature > 0.0 && (params.top_k > 0u || params.top_p < 1.0)) {
    let range = min(top - float_of(~largest(lane, lowest)), 40.0 * params.temperature);
    let width = max(range, 1e-30) / f32(bin_count);
    if (params.top_k > 0u) {
      low = threshold(lane, row, count, top, width, low, false, f32(params.top_k));
    }
    if (params.top_p < 1.0) {
      low = threshold(lane, row, count, top, width, low, true, params.top_p);
    }
  }

  // Gumbel-max: the largest of z - log(E) has the softmax's distribution, E exponential.
  let key = pcg4d(vec4<u32>(params.seed, 0u, known[row], taken));
  var best = 0u;
  var best_token = 0xffffffffu;
  for (var i = lane; i < count; i += workgroup_size) {
    let words = words_of(i, first);
    if (params.temperature == 0.0) {
      for (var c = 0u; c < 4u; c++) {
        if (words[c] > best) {
          best = words[c];
          best_token = i * 4u + c;
        }
      }
    } else {
      let keep = words >= vec4<u32>(low);
      if (any(keep)) {
        let z = (logits[first + i] - top) / params.temperature;
        let kept = keep & (z >= vec4<f32>(params.log_min_p));
        let race = z - log(exponential4(pcg4d(key + vec4<u32>(i, 0u, 0u, 0u))));
        for (var c = 0u; c < 4u; c++) {
          let word = select(0u, word_of(race[c]), kept[c]);
          if (word > best) {
            best = word;
            best_token = i * 4u + c;
          }
        }
      }
    }
  }
  shared_words[lane] = best;
  shared_words_2[lane] = best_token;
  workgroupBarrier();
  for (var half = workgroup_size / 2u; half > 0u; half /= 2u) {
    if (lane < half) {
      let other = shared_words[lane + half];
      let other_token = shared_words_2[lane + half];
      if (other > shared_words[lane] ||
        (other == shared_words[lane] && other_token < shared_words_2[lane])) {
        shared_words[lane] = other;
        shared_words_2[lane] = other_token;
      }
    }
    workgroupBarrier();
  }
  if (lane != 0u || count == 0u) { return; }
  if (top_word == 0u) {
    errors[row] = 1u;
    done[row] = 1u;
    return;
  }
  let token = shared_words_2[0];
  outputs[row * params.max_new + taken] = token;
  counts[row] = taken + 1u;
  next[row] = token;
  var ended = taken + 1u == params.max_new;
  for (var e = 0u; e < params.eos_count; e++) {
    if (known[params.rows + e] == token) { ended = true; }
  }
  if (ended) { done[row] = 1u; }
}
