"""What everything stands on: console, device, processes, files, environment. Knows no network."""
