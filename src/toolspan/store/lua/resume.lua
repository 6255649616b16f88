-- Have the calls of a tool run again, write down who asked for it, and tell the workers.
--
-- KEYS[1] control   what operators ask of the workers
-- KEYS[2] audit     what operators did
-- ARGV[1] tool
-- ARGV[2] who
-- ARGV[3] why
--
-- Returns what was on record of the pause, or nil when the tool was not paused: nothing was written.
--
-- include clock
-- include audit

local key, tool, who, why = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local field = 'pause:' .. tool

local known = redis.call('HGET', key, field)
if not known then
  return nil
end
redis.call('HDEL', key, field)
audit(KEYS[2], now_ms(), 'resume', who, 'tool', tool, 'why', why)
redis.pcall('PUBLISH', key, field)
return known
