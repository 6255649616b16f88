"""`toolspan demo`: the whole thing on one machine, with a worker that is killed in the middle."""
