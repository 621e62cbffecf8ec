// Sums and maxima over the `lanes_a_row` invocations that share a row (a power of 2; 1 on a CPU posing
// as a GPU, where whole rows beat trees), and the mask of a row's last vec4.
override workgroup_size: u32 = 64;
override lanes_a_row: u32 = 1;

var<workgroup> row_partials: array<f32, workgroup_size>;

fn row_sum(lane: u32, four: vec4<f32>) -> f32 {
  let mine = four.x + four.y + four.z + four.w;
  if (lanes_a_row == 1u) { return mine; }
  let member = lane % lanes_a_row;
  row_partials[lane] = mine;
  workgroupBarrier();
  for (var half = lanes_a_row / 2u; half > 0u; half /= 2u) {
    if (member < half) { row_partials[lane] += row_partials[lane + half]; }
    workgroupBarrier();
  }
  let result = row_partials[lane - member];
  workgroupBarrier();
  return result;
}

fn row_largest(lane: u32, four: vec4<f32>) -> f32 {
  let mine = max(max(four.x, four.y), max(four.z, four.w));
  if (lanes_a_row == 1u) { return mine; }
  let member = lane % lanes_a_row;
  row_partials[lane] = mine;
  workgroupBarrier();
  for (var half = lanes_a_row / 2u; half > 0u; half /= 2u) {
    if (member < half) { row_partials[lane] = max(row_partials[lane], row_partials[lane + half]); }
    workgroupBarrier();
  }
  let result = row_partials[lane - member];
  workgroupBarrier();
  return result;
}

// Which of the columns 4 i to 4 i + 3 are among the first `seen`.
fn mask_of(i: u32, seen: u32) -> vec4<bool> {
  return vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(seen);
}
