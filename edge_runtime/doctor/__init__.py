"""Is this machine fit for running strangers' modules? `python -m edge_runtime.doctor` says."""
