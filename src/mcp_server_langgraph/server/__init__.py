"""The MCP server: protocol, transports, health, and the one place that wires the services together."""
