-- Append one call; its deadline is set by Redis' clock, the one that workers compare with.
--
-- KEYS[1] stream      tool calls
-- ARGV[1] timeout_ms  how long somebody waits; empty: nobody sets a deadline
-- ARGV[2..] fields    name, value, name, value …; no more than MAX_FIELDS of codec/limits.py: Lua hands over no more
--
-- Returns the entry id.
--
-- include clock
-- include call

return add_call(KEYS[1], ARGV[1], 2)
