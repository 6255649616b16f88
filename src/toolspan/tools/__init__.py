"""Tools: how they are declared, found, and given their arguments."""
