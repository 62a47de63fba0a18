"""What ``serve`` starts beside the server, and ends with it."""
