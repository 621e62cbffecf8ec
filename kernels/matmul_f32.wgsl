// Four neighbouring elements of an f32 weight.
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;

fn weight4(index: u32) -> vec4<f32> { return weight[index]; }
