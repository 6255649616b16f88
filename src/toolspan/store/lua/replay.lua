-- Put a dead letter back on the stream as a new call, once.
--
-- KEYS[1] stream        tool calls
-- KEYS[2] dead_letters
-- KEYS[3] audit         what operators did
-- KEYS[4] events        exceptional steps
-- ARGV[1] letter_id
-- ARGV[2] original_id   its entry id
-- ARGV[3] call_id       of the new call
-- ARGV[4] who
-- ARGV[5] matching      the filters of a bulk action, or empty
-- ARGV[6..] fields      of the new call, no more than MAX_FIELDS of codec/limits.py: Lua can hand over no more
--
-- Returns the new entry id, or nil when the dead letter is gone: replayed or discarded by somebody else.
--
-- include clock
-- include audit
-- include event

local stream, dead_letters, events = KEYS[1], KEYS[2], KEYS[4]
local letter_id, original_id, call_id, who, matching = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if #redis.call('XRANGE', dead_letters, letter_id, letter_id) == 0 then
  return nil
end
-- The new call first: were it refused, the dead letter would be lost.
local entry_id = redis.call('XADD', stream, '*', unpack(ARGV, 6))
redis.call('XDEL', dead_letters, letter_id)
local now = now_ms()
local notes = { 'dead_letter', letter_id, 'dlq.id', original_id, 'call', call_id, 'entry', entry_id }
if matching ~= '' then
  notes[9], notes[10] = 'matching', matching
end
audit(KEYS[3], now, 'replay', who, unpack(notes))
event(events, now, 'replayed', entry_id, who, 0, letter_id)
return entry_id
