-- Stop being the process that reports the group's gauges.
--
-- KEYS[1] monitor  who reports
-- ARGV[1] me

if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
