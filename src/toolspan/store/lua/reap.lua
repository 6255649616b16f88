-- Delete a consumer that is dead and holds nothing, with its registration.
--
-- KEYS[1] stream      tool calls
-- KEYS[2] workers     consumer -> last heartbeat
-- KEYS[3] worker      its registration
-- KEYS[4] streams     names of the plane's streams
-- KEYS[5] control     what operators ask of the workers
-- ARGV[1] group
-- ARGV[2] consumer    who shall go
-- ARGV[3] silent_ms   how long it must have been silent; 0 for ourselves
-- ARGV[4] name        the stream's name: it is one of the plane's no more when its last worker goes and it is empty
--
-- Returns 1 when it is gone,
--         0 when it holds something or was heard of since: deleting it would lose what is pending.
--
-- include clock
-- include group

local stream, workers, worker, streams, orders = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, consumer, silent_ms, name = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

-- How long nothing was heard of it. Idle time grows for a live worker on a quiet stream, so it only counts for a
-- consumer that never sent a heartbeat.
local function silence_ms()
  local beat = redis.call('ZSCORE', workers, consumer)
  if beat then
    return now_ms() - tonumber(beat)
  end
  for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    if info[2] == consumer then
      return info[6]
    end
  end
  return silent_ms
end

if redis.call('EXISTS', stream) == 1 and group_of(stream, group) then
  if #redis.call('XPENDING', stream, group, '-', '+', 1, consumer) > 0 then
    return 0
  end
  if consumer ~= '~parked' and silence_ms() < silent_ms then
    return 0
  end
end
redis.pcall('XGROUP', 'DELCONSUMER', stream, group, consumer)
redis.call('ZREM', workers, consumer)
redis.call('DEL', worker)
redis.pcall('HDEL', orders, 'drain:' .. consumer)
if redis.call('XLEN', stream) == 0 and redis.call('ZCARD', workers) == 0 then
  redis.pcall('SREM', streams, name)
end
return 1
