// The invocation's number in a dispatch of up to 65,535 x 65,535 workgroups in a row (gpu.grid).
fn linear_index(group: vec3<u32>, groups: vec3<u32>, lane: u32, size: u32) -> u32 {
  return (group.y * groups.x + group.x) * size + lane;
}
