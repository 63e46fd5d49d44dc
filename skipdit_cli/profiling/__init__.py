"""What generation costs: MACs and FLOPs, latency, peak memory."""
