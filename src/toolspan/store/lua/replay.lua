-- Put a dead letter back on the stream as a new call, once.
--
-- KEYS[1] stream        tool calls
-- KEYS[2] dead_letters
-- KEYS[3] audit         what operators did
-- KEYS[4] events        exceptional steps
-- ARGV[1] letter_id
-- ARGV[2] call_id       of the new call
-- ARGV[3] who
-- ARGV[4..] fields      of the new call
--
-- Returns the new entry id, or nil when the dead letter is gone: replayed or discarded by somebody else.
--
-- include clock
-- include event

local stream, dead_letters, audit, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local letter_id, call_id, who = ARGV[1], ARGV[2], ARGV[3]
local AUDIT_KEPT = 10000

if #redis.call('XRANGE', dead_letters, letter_id, letter_id) == 0 then
  return nil
end
-- The new call first: were it refused, the dead letter would be lost.
local entry_id = redis.call('XADD', stream, '*', unpack(ARGV, 4))
redis.call('XDEL', dead_letters, letter_id)
local now = now_ms()
redis.pcall('XADD', audit, 'MAXLEN', '~', AUDIT_KEPT, '*', 'action', 'replay', 'who', who, 'dead_letter', letter_id,
  'call', call_id, 'entry', entry_id, 'at', now)
event(events, now, 'replayed', entry_id, who, 0, letter_id)
return entry_id
