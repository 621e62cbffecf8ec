// Counter-based random words: the same counters always give the same words, in any order of
// evaluation. PCG4D of Jarzynski and Olano, "Hash Functions for GPU Rendering" (JCGT 9(3), 2020).
fn pcg4d(counters: vec4<u32>) -> vec4<u32> {
  var v = counters * 1664525u + 1013904223u;
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  v ^= v >> vec4<u32>(16u);
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  return v;
}

// Exponential variates of mean 1: -log(1 - u). Small ones decide a race, so u keeps the resolution
// that floats have near 0, and log1p is a series there.
fn exponential4(words: vec4<u32>) -> vec4<f32> {
  let u = min((vec4<f32>(words) + 0.5) * 0x1p-32, vec4<f32>(0x1.fffffep-1));
  let series = u * (1.0 + u * (0.5 + u * (0.33333334 + u * 0.25)));
  return select(-log(1.0 - u), series, u < vec4<f32>(0.015625));
}
