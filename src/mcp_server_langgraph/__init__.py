"""An MCP server around a LangGraph agent, and the resilience layer under it (``mcp_server_langgraph.resilience``)."""
