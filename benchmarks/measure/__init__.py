"""Instruments: load and its figures over HTTP, stages and the floor in process."""
