"""The ways to reach a target, one file each."""
