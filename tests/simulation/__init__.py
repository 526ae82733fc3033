"""Seeded simulation of the shipped core and runtime: one thread, no real time, every fault we know of."""
