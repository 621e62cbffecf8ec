// Copies texels of four words from a texture, as matmul_broadcast.ts reads weights, or from a buffer.

struct Params { width: u32, count: u32 }

@group(0) @binding(0) var texels: texture_storage_2d<rgba32uint, read>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn from_texture(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= params.count) { return; }
  y[id.x] = textureLoad(texels, vec2<u32>(id.x % params.width, id.x / params.width));
}

@group(0) @binding(0) var<storage, read> words: array<vec4<u32>>;

@compute @workgroup_size(64)
fn from_buffer(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= params.count) { return; }
  y[id.x] = words[id.x];
}
