"""Those we are compared with: each in an environment of its own, at the settings that its documentation recommends."""
