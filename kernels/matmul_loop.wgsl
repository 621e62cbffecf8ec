// The fallback that runs anywhere: each invocation owns 4 rows x 4 columns of the output and walks
// the inner axis by 4. Comes after matmul_output.wgsl and one of matmul_{f32,f16,bf16}.wgsl.

override columns_a_group: u32 = 16;
override rows_a_group: u32 = 4;

// y = x W^T: column n of y is row n of the weight.
@compute @workgroup_size(columns_a_group, rows_a_group)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = id.x;
  let row = id.y * 4u;
  if (column >= params.columns || row >= params.rows) { return; }
  let last = params.rows - 1u;
  let x0 = row * params.x_stride + params.x_first;
  let x1 = min(row + 1u, last) * params.x_stride + params.x_first;
  let x2 = min(row + 2u, last) * params.x_stride + params.x_first;
  let x3 = min(row + 3u, last) * params.x_stride + params.x_first;
  var at = column * 4u * params.weight_stride;
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  for (var k = 0u; k < params.inner; k++) {
    // Rows are the inner four here: their transpose has the columns of y in its lanes.
    let w = transpose(mat4x4<f32>(
      weight4(at),
      weight4(at + params.weight_stride),
      weight4(at + 2u * params.weight_stride),
      weight4(at + 3u * params.weight_stride),
    ));
    s0 += w * x[x0 + k];
    s1 += w * x[x1 + k];
    s2 += w * x[x2 + k];
    s3 += w * x[x3 + k];
    at += 1u;
  }
  store(row, column, s0);
  store(row + 1u, column, s1);
  store(row + 2u, column, s2);
  store(row + 3u, column, s3);
}

// dx = dy W: column k of dx is column k of the weight.
@compute @workgroup_size(columns_a_group, rows_a_group)
fn backward(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = id.x;
  let row = id.y * 4u;
  if (column >= params.columns || row >= params.rows) { return; }
  let last = params.rows - 1u;
  let x0 = row * params.x_stride + params.x_first;
  let x1 = min(row + 1u, last) * params.x_stride + params.x_first;
  let x2 = min(row + 2u, last) * params.x_stride + params.x_first;
  let x3 = min(row + 3u, last) * params.x_stride + params.x_first;
  var at = column;
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  for (var n = 0u; n < params.inner; n++) {
    let w = mat4x4<f32>(
      weight4(at),
      weight4(at + params.weight_stride),
      weight4(at + 2u * params.weight_stride),
      weight4(at + 3u * params.weight_stride),
    );
    s0 += w * x[x0 + n];
    s1 += w * x[x1 + n];
    s2 += w * x[x2 + n];
    s3 += w * x[x3 + n];
    at += 4u * params.weight_stride;
  }
  store(row, column, s0);
  store(row + 1u, column, s1);
  store(row + 2u, column, s2);
  store(row + 3u, column, s3);
}
