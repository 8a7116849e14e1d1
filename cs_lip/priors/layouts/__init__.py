"""The layouts in which generators' weights circulate, one file for each architecture."""
