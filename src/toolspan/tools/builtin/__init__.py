"""Tools that ship, for a first look: `toolspan worker --tools toolspan.tools.builtin`."""
