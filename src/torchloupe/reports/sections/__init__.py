"""What a report's sections hold."""
