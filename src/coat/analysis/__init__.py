"""What the think states hold: probes, reconstructions, reports."""
