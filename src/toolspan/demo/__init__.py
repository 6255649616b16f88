"""`toolspan demo`: the whole stack on one machine, under load, with a worker killed in the middle."""
