"""Measuring, judging and keeping recoveries."""
