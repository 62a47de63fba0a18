"""The agent: a LangGraph graph of a model and its tools, and the conversation around it."""
