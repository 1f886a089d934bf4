"""What needs torch: imported only when a learned model or batches on a device are asked for."""
