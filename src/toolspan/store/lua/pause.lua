-- Have the calls of a tool wait, write down who asked for it, and tell the workers.
--
-- KEYS[1] control   what operators ask of the workers
-- KEYS[2] audit     what operators did
-- ARGV[1] tool
-- ARGV[2] who
-- ARGV[3] why
--
-- Returns nil when it is paused from now on, or what is on record of it: it was paused before, nothing was written.
--
-- include clock
-- include audit
-- include control

local key, tool, who, why = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local field = 'pause:' .. tool

local known = redis.call('HGET', key, field)
if known then
  return known
end
-- Only a script's first write is checked on a full server, and this one passes: then most of all is this wanted.
redis.call('HDEL', key, field)
local now = now_ms()
redis.call('HSET', key, field, control.order(who, why, now))
audit(KEYS[2], now, 'pause', who, 'tool', tool, 'why', why)
redis.pcall('PUBLISH', key, field)
