"""Faults in lab nodes: each must be found by its check, and by no other."""
