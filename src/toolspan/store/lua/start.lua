-- Mark attempts as begun before their tools run: count claimed ones, and put the mark on those that run at most once.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] attempts   entry id -> list of attempts; entry id:mark -> token
-- ARGV[1] group
-- ARGV[2] consumer   who believes it holds the deliveries
-- ARGV[3..] starts   entry id, the count it holds now, the attempt that begins, token or empty
--
-- Returns for each: 1 begun, also when asked again after a lost answer,
--                   0 no longer ours, or its body is gone: nothing was written,
--                   2 another start of it is on record, and it may never run again: nothing was written.
--
-- include clock
-- include history

local stream, attempts = KEYS[1], KEYS[2]
local group, consumer = ARGV[1], ARGV[2]

local function start(now, entry_id, held, attempt, token)
  local entry = redis.call('XPENDING', stream, group, entry_id, entry_id, 1, consumer)[1]
  if not entry or (entry[4] ~= held and entry[4] ~= attempt) then
    return 0
  end
  -- XCLAIM would drop an entry whose body is gone; it stays pending, for a claim to report it as lost.
  if #redis.call('XRANGE', stream, entry_id, entry_id) == 0 then
    return 0
  end
  if token ~= '' then
    local mark = redis.call('HGET', attempts, entry_id .. ':mark')
    if mark and mark ~= token then
      return 2
    end
  end
  -- Only a script's first write is checked on a full server, and this one passes.
  redis.call('XCLAIM', stream, group, consumer, 0, entry_id, 'RETRYCOUNT', attempt, 'JUSTID')
  if token ~= '' then
    redis.call('HSET', attempts, entry_id .. ':mark', token)
  end
  local list = history.read(attempts, entry_id)
  history.of(list, consumer, attempt, now)
  history.write(attempts, entry_id, list)
  return 1
end

local now = now_ms()
local begun = {}
for i = 3, #ARGV, 4 do
  begun[#begun + 1] = start(now, ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3])
end
return begun
