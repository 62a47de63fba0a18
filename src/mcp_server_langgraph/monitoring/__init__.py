"""What is asked of the monitoring system."""
