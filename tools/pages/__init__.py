"""The pages of docs/ that are made from code, one file for each kind."""
