-- Stop being the process that reports the group's gauges.
--
-- KEYS[1] monitor  who reports
-- ARGV[1] me
--
-- Returns 1 when it was us, 0 when it was somebody else.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
