// Four neighbouring elements of an f16 weight, two a word.
@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

fn weight4(index: u32) -> vec4<f32> {
  let words = weight[index];
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}
