"""The run folder: its name, metrics, results, summary."""
