-- Tell the fleet that a call was given up, wherever it is.
--
-- KEYS[1] cancel    what is looked for by whoever did not hear the message; the channel has the same name
-- KEYS[2] parked    entry id -> due time
-- ARGV[1] ttl_ms
-- ARGV[2] entry_id  of the call, where it is known; empty otherwise
--
-- include clock

local cancel, parked = KEYS[1], KEYS[2]
local ttl_ms, entry_id = ARGV[1], ARGV[2]

-- Only a script's first write is checked on a full server, and this one passes: what is given up makes room.
redis.call('DEL', cancel)
redis.call('SET', cancel, '1', 'PX', ttl_ms)
-- One that waits for its next attempt would be answered only then.
redis.pcall('ZADD', parked, 'XX', 'LT', now_ms(), entry_id)
redis.pcall('PUBLISH', cancel, '')
