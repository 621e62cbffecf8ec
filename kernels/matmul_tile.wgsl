// For GPUs: a workgroup of 16 x 16 invocations owns 64 columns x 64 or 128 rows of the output. Both
// operands pass through workgroup memory 16 inner elements at a time, weights expanded on the way
// in; each invocation multiplies 4 or 8 rows x 4 columns from there in registers.
// Comes after matmul_output.wgsl and one of matmul_{f32,f16,bf16}.wgsl.

const inner_a_tile = 4u; // in vec4
const columns_a_tile = 16u; // in vec4
const rows_a_half = 64u;

// x_tile[row][inner / 4], weight_tile[inner][column / 4].
var<workgroup> x_tile: array<vec4<f32>, 2u * rows_a_half * inner_a_tile>;
var<workgroup> weight_tile: array<vec4<f32>, 4u * inner_a_tile * columns_a_tile>;

// The sums of 4 rows x 4 columns.
struct Sums { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32> }

fn stage_x(lane: u32, half: u32, first_row: u32, k: u32) {
  let tile_row = half * rows_a_half + lane / inner_a_tile;
  let row = first_row + tile_row;
  let at = k + lane % inner_a_tile;
  var value = vec4<f32>(0.0);
  if (row < params.rows && at < params.inner) {
    value = x[row * params.x_stride + params.x_first + at];
  }
  x_tile[tile_row * inner_a_tile + lane % inner_a_tile] = value;
}

fn weight_or_zero(index: u32, inside: bool) -> vec4<f32> {
  if (!inside) { return vec4<f32>(0.0); }
  return weight4(index);
}

// Rows of the weight are columns of the tile: 64 invocations transpose 4 x 4 each.
fn stage_weight_forward(lane: u32, first_column: u32, k: u32) {
  if (lane >= columns_a_tile * inner_a_tile) { return; }
  let tile_column = lane / inner_a_tile;
  let tile_inner = lane % inner_a_tile;
  let column = first_column + tile_column;
  let inside = column < params.columns && k + tile_inner < params.inner;
  let at = column * 4u * params.weight_stride + k + tile_inner;
  let w = transpose(mat4x4<f32>(
    weight_or_zero(at, inside),
    weight_or_zero(at + params.weight_stride, inside),
    weight_or_zero(at + 2u * params.weight_stride, inside),
    weight_or_zero(at + 3u * params.weight_stride, inside),
  ));
  let to = tile_inner * 4u * columns_a_tile + tile_column;
  weight_tile[to] = w[0];
  weight_tile[to + columns_a_tile] = w[1];
  weight_tile[to + 2u * columns_a_tile] = w[2];
  weight_tile[to + 3u * columns_a_tile] = w[3];
}

fn stage_weight_backward(lane: u32, first_column: u32, k: u32) {
  let row = k * 4u + lane / columns_a_tile;
  let column = first_column + lane % columns_a_tile;
  let inside = column < params.columns && row < params.inner * 4u;
  weight_tile[lane] = weight_or_zero(row * params.weight_stride + column, inside);
}

fn weight_block(inner: u32, column: u32) -> mat4x4<f32> {
  let at = inner * 4u * columns_a_tile + column;
  return mat4x4<f32>(
    weight_tile[at],
    weight_tile[at + columns_a_tile],
    weight_tile[at + 2u * columns_a_tile],
    weight_tile[at + 3u * columns_a_tile],
  );
}

fn add_products(sums: Sums, row: u32, inner: u32, w: mat4x4<f32>) -> Sums {
  let at = row * inner_a_tile + inner;
  return Sums(
    sums.a + w * x_tile[at],
    sums.b + w * x_tile[at + inner_a_tile],
    sums.c + w * x_tile[at + 2u * inner_a_tile],
    sums.d + w * x_tile[at + 3u * inner_a_tile],
  );
}

fn multiply(sums: Sums, row: u32, column: u32) -> Sums {
  var result = add_products(sums, row, 0u, weight_block(0u, column));
  result = add_products(result, row, 1u, weight_block(1u, column));
  result = add_products(result, row, 2u, weight_block(2u, column));
  return add_products(result, row, 3u, weight_block(3u, column));
}

fn multiply_both(sums: ptr<function, array<Sums, 2>>, row: u32, column: u32) {
  for (var inner = 0u; inner < inner_a_tile; inner++) {
    let w = weight_block(inner, column);
    (*sums)[0] = add_products((*sums)[0], row, inner, w);
    (*sums)[1] = add_products((*sums)[1], row + rows_a_half, inner, w);
  }
}

fn store_sums(row: u32, column: u32, sums: Sums) {
  if (column >= params.columns) { return; }
  store(row, column, sums.a);
  store(row + 1u, column, sums.b);
  store(row + 2u, column, sums.c);
  store(row + 3u, column, sums.d);
}

@compute @workgroup_size(256)
fn forward_64(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  var sums = Sums();
  for (var k = 0u; k < params.inner; k += inner_a_tile) {
    stage_x(lane, 0u, group.y * rows_a_half, k);
    stage_weight_forward(lane, group.x * columns_a_tile, k);
    workgroupBarrier();
    sums = multiply(sums, lane / 16u * 4u, lane % 16u);
    workgroupBarrier();
  }
  let row = group.y * rows_a_half + lane / 16u * 4u;
  store_sums(row, group.x * columns_a_tile + lane % 16u, sums);
}

@compute @workgroup_size(256)
fn backward_64(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  var sums = Sums();
  for (var k = 0u; k < params.inner; k += inner_a_tile) {
    stage_x(lane, 0u, group.y * rows_a_half, k);
    stage_weight_backward(lane, group.x * columns_a_tile, k);
    workgroupBarrier();
    sums = multiply(sums, lane / 16u * 4u, lane % 16u);
    workgroupBarrier();
  }
  let row = group.y * rows_a_half + lane / 16u * 4u;
  store_sums(row, group.x * columns_a_tile + lane % 16u, sums);
}

@compute @workgroup_size(256)
fn forward_128(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let first_row = group.y * 2u * rows_a_half;
  var sums = array<Sums, 2>();
  for (var k = 0u; k < params.inner; k += inner_a_tile) {
    stage_x(lane, 0u, first_row, k);
    stage_x(lane, 1u, first_row, k);
    stage_weight_forward(lane, group.x * columns_a_tile, k);
    workgroupBarrier();
    multiply_both(&sums, lane / 16u * 4u, lane % 16u);
    workgroupBarrier();
  }
  let row = first_row + lane / 16u * 4u;
  store_sums(row, group.x * columns_a_tile + lane % 16u, sums[0]);
  store_sums(row + rows_a_half, group.x * columns_a_tile + lane % 16u, sums[1]);
}

@compute @workgroup_size(256)
fn backward_128(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let first_row = group.y * 2u * rows_a_half;
  var sums = array<Sums, 2>();
  for (var k = 0u; k < params.inner; k += inner_a_tile) {
    stage_x(lane, 0u, first_row, k);
    stage_x(lane, 1u, first_row, k);
    stage_weight_backward(lane, group.x * columns_a_tile, k);
    workgroupBarrier();
    multiply_both(&sums, lane / 16u * 4u, lane % 16u);
    workgroupBarrier();
  }
  let row = first_row + lane / 16u * 4u;
  store_sums(row, group.x * columns_a_tile + lane % 16u, sums[0]);
  store_sums(row + rows_a_half, group.x * columns_a_tile + lane % 16u, sums[1]);
}
