"""The guest program, which runs inside a sandbox and nowhere else."""
