// Finds the bin in which the cut lies, one lane walking down from the largest values. Sums are exact:
// a finite f32 is an integer times 2^-149, so a sum of 2^32 of them is an integer of under 310 bits.
//
// state: 0 status (0 fine, 1 not finite or negative, 2 total of zero, 3 fewer elements than asked),
// 1 the cut's bits so far, 2-3 the sum still needed within them, 4 threshold bits, 5 last kept index
// among those equal to it, 6 the slot that index lies in, 7 how many equals are kept in that slot.

struct Params {
  /** How many to keep, by count. */
  count: u32,
  /** theta = (theta_high * 2^32 + theta_low) * 2^-theta_shift. */
  theta_low: u32,
  theta_high: u32,
  theta_shift: u32,
}

override by_count: bool = false;

const limbs = 12u;
alias Wide = array<u32, limbs>;

@group(0) @binding(0) var<storage, read> totals: array<u32>;
@group(0) @binding(1) var<storage, read_write> state: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

/** x += (high, low) * 2^shift */
fn add(x: ptr<function, Wide>, low: u32, high: u32, shift: u32) {
  let bit = shift & 31u;
  var carry_in = vec3<u32>(low, high, 0u);
  if (bit != 0u) {
    carry_in = vec3<u32>(
      low << bit,
      (high << bit) | (low >> (32u - bit)),
      high >> (32u - bit),
    );
  }
  var at = shift / 32u;
  var carry = 0u;
  for (var i = 0u; at < limbs; i++) {
    var word = carry;
    carry = 0u;
    if (i < 3u) {
      word += carry_in[i];
      carry = select(0u, 1u, word < carry_in[i]);
    } else if (word == 0u) {
      return;
    }
    let sum = (*x)[at] + word;
    carry += select(0u, 1u, sum < word);
    (*x)[at] = sum;
    at++;
  }
}

/** x -= y, x >= y */
fn subtract(x: ptr<function, Wide>, y: ptr<function, Wide>) {
  var borrow = 0u;
  for (var i = 0u; i < limbs; i++) {
    let a = (*x)[i];
    let b = (*y)[i];
    let difference = a - b - borrow;
    borrow = select(0u, 1u, a < b || (a == b && borrow == 1u));
    (*x)[i] = difference;
  }
}

fn is_less(x: ptr<function, Wide>, y: ptr<function, Wide>) -> bool {
  for (var i = 0u; i < limbs; i++) {
    let a = (*x)[limbs - 1u - i];
    let b = (*y)[limbs - 1u - i];
    if (a != b) { return a < b; }
  }
  return false;
}

fn is_zero(x: ptr<function, Wide>) -> bool {
  var any_bit = 0u;
  for (var i = 0u; i < limbs; i++) { any_bit |= (*x)[i]; }
  return any_bit == 0u;
}

/** ceil(x / 2^shift) */
fn shift_down(x: ptr<function, Wide>, shift: u32) -> Wide {
  let words = shift / 32u;
  let bit = shift & 31u;
  var lost = 0u;
  var result = Wide();
  for (var i = 0u; i < limbs; i++) {
    if (i < words) {
      lost |= (*x)[i];
    } else {
      result[i - words] = (*x)[i] >> bit;
      if (bit != 0u) {
        if (i + 1u < limbs) { result[i - words] |= (*x)[i + 1u] << (32u - bit); }
        if (i == words) { lost |= (*x)[i] << (32u - bit); }
      }
    }
  }
  if (lost != 0u) { add(&result, 1u, 0u, 0u); }
  return result;
}

/** a * b as (low, high) */
fn multiply(a: u32, b: u32) -> vec2<u32> {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let cross1 = (a & 0xffffu) * (b >> 16u);
  let cross2 = (a >> 16u) * (b & 0xffffu);
  let middle = (low >> 16u) + (cross1 & 0xffffu) + (cross2 & 0xffffu);
  return vec2<u32>(
    (low & 0xffffu) | (middle << 16u),
    (a >> 16u) * (b >> 16u) + (cross1 >> 16u) + (cross2 >> 16u) + (middle >> 16u),
  );
}

/** ceil(theta * x) */
fn theta_times(x: ptr<function, Wide>) -> Wide {
  var product = Wide();
  for (var i = 0u; i < limbs; i++) {
    let low = multiply((*x)[i], params.theta_low);
    add(&product, low.x, low.y, 32u * i);
    let high = multiply((*x)[i], params.theta_high);
    add(&product, high.x, high.y, 32u * (i + 1u));
  }
  return shift_down(&product, params.theta_shift);
}

/** Nothing is kept: no bits match, no finite value reaches the threshold. */
fn stop(status: u32) {
  state[0] = status;
  state[1] = 0xffffffffu;
  state[2] = 0u;
  state[3] = 0u;
  state[4] = 0x7f800000u;
  state[5] = 0u;
  state[6] = 0u;
  state[7] = 0u;
}

/** The weight of a bin's sums in units of 2^-149, as a shift. */
fn scale_of(bin: u32) -> u32 {
  return select(max(bin >> 2u, 1u) - 1u, 0u, by_count);
}

@compute @workgroup_size(1)
fn search_first() {
  const bins = 1024u;
  const not_finite = 1020u;
  for (var bin = not_finite; bin < bins; bin++) {
    if ((totals[bin] | totals[bin + bins]) != 0u) { stop(1u); return; }
  }
  var need = Wide();
  if (by_count) {
    need[0] = params.count;
    if (params.count == 0u) { stop(0u); return; }
  } else {
    for (var bin = 0u; bin < not_finite; bin++) {
      if ((totals[bin] | totals[bin + bins]) != 0u) {
        add(&need, totals[bin], totals[bin + bins], scale_of(bin));
      }
    }
    if (is_zero(&need)) { stop(2u); return; }
    need = theta_times(&need);
  }
  for (var i = 0u; i < not_finite; i++) {
    let bin = not_finite - 1u - i;
    if ((totals[bin] | totals[bin + bins]) == 0u) { continue; }
    var part = Wide(); // spelled out: naga does not zero it again in each turn of the loop
    add(&part, totals[bin], totals[bin + bins], scale_of(bin));
    if (!is_less(&part, &need)) {
      let units = shift_down(&need, scale_of(bin));
      state[0] = 0u;
      state[1] = bin;
      state[2] = units[0];
      state[3] = units[1];
      return;
    }
    subtract(&need, &part);
  }
  stop(3u);
}

/** a < b for 64-bit (low, high) */
fn less64(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn minus64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

@compute @workgroup_size(1)
fn search_second() {
  const bins = 2048u;
  if (state[1] == 0xffffffffu) { return; }
  var need = vec2<u32>(state[2], state[3]);
  for (var i = 0u; i < bins; i++) {
    let bin = bins - 1u - i;
    let part = vec2<u32>(totals[bin], totals[bin + bins]);
    if (less64(part, need)) {
      need = minus64(need, part);
      continue;
    }
    state[1] = (state[1] << 11u) | bin;
    state[2] = need.x;
    state[3] = need.y;
    return;
  }
}

struct SlotParams { slots: u32 }

@group(0) @binding(2) var<storage, read> partials: array<u32>;
@group(0) @binding(3) var<uniform> slot_params: SlotParams;

@compute @workgroup_size(1)
fn search_third() {
  const bins = 1024u;
  if (state[1] == 0xffffffffu) { return; }
  var need = vec2<u32>(state[2], state[3]);
  let prefix = state[1] << 10u;
  for (var i = 0u; i < bins; i++) {
    let bin = bins - 1u - i;
    let bits = prefix | bin;
    let hidden = select(0x800000u, 0u, (bits >> 23u) == 0u);
    let unit = select((bits & 0x7fffffu) | hidden, 1u, by_count);
    let equal = totals[bin];
    let part = multiply(equal, unit);
    if (less64(part, need)) {
      need = minus64(need, part);
      continue;
    }
    // The fewest of the equals that reach what is still needed, at least one.
    var few = 1u;
    var enough = equal;
    while (few < enough) {
      let middle = few + (enough - few) / 2u;
      if (less64(multiply(middle, unit), need)) { few = middle + 1u; } else { enough = middle; }
    }
    state[4] = bits;
    for (var slot = 0u; slot < slot_params.slots; slot++) {
      let here = partials[slot * 2u * bins + bin];
      if (enough <= here) {
        state[6] = slot;
        state[7] = enough;
        return;
      }
      enough -= here;
    }
    return;
  }
}
