// For GPUs and a few rows of x, as in decoding, where reading the weight once is all the work: a
// workgroup owns 4 columns x 4 rows of y, its 64 lanes split the inner axis (neighbours read
// neighbouring words) and a fixed tree adds their sums. Forward only.
// Comes after matmul_output.wgsl and one of matmul_{f32,f16,bf16}.wgsl.

const lanes = 64u;

var<workgroup> sums: array<vec4<f32>, 4u * lanes>;

@compute @workgroup_size(lanes)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = group.y * 4u;
  let last = params.rows - 1u;
  let x0 = row * params.x_stride + params.x_first;
  let x1 = min(row + 1u, last) * params.x_stride + params.x_first;
  let x2 = min(row + 2u, last) * params.x_stride + params.x_first;
  let x3 = min(row + 3u, last) * params.x_stride + params.x_first;
  let first = group.x * 4u * params.weight_stride;
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  for (var k = lane; k < params.inner; k += lanes) {
    let w = transpose(mat4x4<f32>(
      weight4(first + k),
      weight4(first + params.weight_stride + k),
      weight4(first + 2u * params.weight_stride + k),
      weight4(first + 3u * params.weight_stride + k),
    ));
    s0 += w * x[x0 + k];
    s1 += w * x[x1 + k];
    s2 += w * x[x2 + k];
    s3 += w * x[x3 + k];
  }
  sums[lane] = s0;
  sums[lanes + lane] = s1;
  sums[2u * lanes + lane] = s2;
  sums[3u * lanes + lane] = s3;
  workgroupBarrier();
  for (var half = lanes / 2u; half > 0u; half /= 2u) {
    if (lane < half) {
      sums[lane] += sums[lane + half];
      sums[lanes + lane] += sums[lanes + lane + half];
      sums[2u * lanes + lane] += sums[2u * lanes + lane + half];
      sums[3u * lanes + lane] += sums[3u * lanes + lane + half];
    }
    workgroupBarrier();
  }
  if (lane < 4u) { store(row + lane, group.x, sums[lane * lanes]); }
}
