// Four neighbouring elements of a bf16 weight, two a word: the upper halves of f32 words.
@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

fn weight4(index: u32) -> vec4<f32> {
  let words = weight[index];
  return bitcast<vec4<f32>>(
    vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u),
  );
}
