// Shows /openapi.json in Scalar's API reference. Everything that would leave this server is off.
Scalar.createApiReference("#reference", {
  url: "/openapi.json",
  agent: { disabled: true },
  mcp: { disabled: true },
  telemetry: false,
  withDefaultFonts: false,
  hideClientButton: true,
  showDeveloperTools: "never",
  defaultOpenFirstTag: true,
});
