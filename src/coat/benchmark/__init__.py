"""What thinking costs at inference: time, memory and FLOPs."""
