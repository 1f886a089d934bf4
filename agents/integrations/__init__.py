"""Other libraries' agents and buffers on recgym's environments and logs: Stable-Baselines3, d3rlpy, TorchRL."""
