"""Sweeps: a plan becomes cells, a cell becomes rows, and rows become one table."""
