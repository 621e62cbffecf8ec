// What the matmuls that read weights from buffers share: bindings, parameters, and the store that
// adds the bias and what was there before. Here x and y are the product's input and output in
// either direction: x and y going forward, dy and dx going back.

struct Params {
  rows: u32,
  // All in vec4: the output's columns, the inner axis, and where rows begin.
  columns: u32,
  inner: u32,
  x_stride: u32,
  x_first: u32,
  y_stride: u32,
  y_first: u32,
  weight_stride: u32,
  accumulate: u32,
  biased: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> params: Params;

fn store(row: u32, column: u32, sum: vec4<f32>) {
  if (row >= params.rows) { return; }
  let at = row * params.y_stride + params.y_first + column;
  var value = sum;
  if (params.biased == 1u) { value += bias[params.y_first + column]; }
  if (params.accumulate == 1u) { value += y[at]; }
  y[at] = value;
}
